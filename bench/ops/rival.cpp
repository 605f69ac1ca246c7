// cuBLASLt by dlopen. This file declares the types and numbers of its C interface that it needs, since the headers may
// not be installed.
#include "bench/ops/rival.h"

#include <dlfcn.h>

namespace mor::bench {

namespace {

constexpr int kFloat = 0, kBfloat16 = 14, kComputeFloat = 68;  // cudaDataType, cublasComputeType_t
constexpr int kTransposeA = 3, kTransposeB = 4;                // cublasLtMatmulDescAttributes_t
constexpr int kMaxWorkspaceBytes = 1;                          // cublasLtMatmulPreferenceAttributes_t
constexpr int kMostAlgorithms = 8;
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

/// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

void check(int status, const char* what) {
  MOR_CHECK(status == 0, INTERNAL, "cuBLASLt: ", what, " returned status ", status);
}

}  // namespace

struct CublasLt::Library {
  void* file = nullptr;
  void* handle = nullptr;
  int (*create)(void**) = nullptr;
  int (*destroy)(void*) = nullptr;
  int (*desc_create)(void**, int, int) = nullptr;
  int (*desc_set)(void*, int, const void*, size_t) = nullptr;
  int (*layout_create)(void**, int, uint64_t, uint64_t, int64_t) = nullptr;
  int (*preference_create)(void**) = nullptr;
  int (*preference_set)(void*, int, const void*, size_t) = nullptr;
  int (*heuristic)(void*, void*, void*, void*, void*, void*, void*, int, Heuristic*, int*) = nullptr;
  int (*matmul)(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*,
                void*, void*, const void*, void*, size_t, void*) = nullptr;

  template <class Function>
  bool find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(file, name));
    return function != nullptr;
  }
  bool load() {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"})
      if (file == nullptr) file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    return file != nullptr && find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") &&
           find(desc_create, "cublasLtMatmulDescCreate") && find(desc_set, "cublasLtMatmulDescSetAttribute") &&
           find(layout_create, "cublasLtMatrixLayoutCreate") &&
           find(preference_create, "cublasLtMatmulPreferenceCreate") &&
           find(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
           find(heuristic, "cublasLtMatmulAlgoGetHeuristic") && find(matmul, "cublasLtMatmul");
  }
};

std::unique_ptr<CublasLt> CublasLt::open(void* stream, Ops& ops) {
  auto library = std::make_unique<Library>();
  if (!library->load() || library->create(&library->handle) != 0) return nullptr;
  return std::unique_ptr<CublasLt>(new CublasLt(std::move(library), stream, ops));
}

CublasLt::CublasLt(std::unique_ptr<Library> library, void* stream, Ops& ops)
    : library_(std::move(library)), stream_(stream), ops_(ops), workspace_(ops.allocate(kWorkspaceBytes)) {}

CublasLt::~CublasLt() {
  ops_.release(workspace_, kWorkspaceBytes);
  library_->destroy(library_->handle);
}

/// cuBLASLt's matrices are column-major: it computes C^T [n,m] = B^T A^T, so B is its first operand and A its second.
/// Descriptors are kept until the process ends, one set for each shape.
std::vector<Run> CublasLt::make(const Product& p, Buffers& buffers) {
  const Tensor a = p.a_transposed ? buffers.activations(p.k, p.m) : buffers.activations(p.m, p.k);
  const Tensor b = p.b_transposed ? buffers.activations(p.n, p.k) : buffers.activations(p.k, p.n);
  const Tensor c = p.accumulate ? buffers.masters(p.m, p.n) : buffers.activations(p.m, p.n);
  const Library& lt = *library_;
  void *desc = nullptr, *first = nullptr, *second = nullptr, *result = nullptr, *preference = nullptr;
  const int transpose_first = p.b_transposed, transpose_second = p.a_transposed;
  check(lt.desc_create(&desc, kComputeFloat, kFloat), "cublasLtMatmulDescCreate");
  check(lt.desc_set(desc, kTransposeA, &transpose_first, sizeof(int)), "cublasLtMatmulDescSetAttribute");
  check(lt.desc_set(desc, kTransposeB, &transpose_second, sizeof(int)), "cublasLtMatmulDescSetAttribute");
  const auto layout = [&](void** to, int type, const Tensor& t) {
    const auto rows = static_cast<uint64_t>(t.columns()), columns = static_cast<uint64_t>(t.rows());
    check(lt.layout_create(to, type, rows, columns, t.columns()), "cublasLtMatrixLayoutCreate");
  };
  layout(&first, kBfloat16, b);
  layout(&second, kBfloat16, a);
  layout(&result, p.accumulate ? kFloat : kBfloat16, c);
  check(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  check(lt.preference_set(preference, kMaxWorkspaceBytes, &kWorkspaceBytes, sizeof(size_t)),
        "cublasLtMatmulPreferenceSetAttribute");
  Heuristic suggested[kMostAlgorithms] = {};
  int found = 0;
  check(lt.heuristic(lt.handle, desc, first, second, result, result, preference, kMostAlgorithms, suggested, &found),
        "cublasLtMatmulAlgoGetHeuristic");
  const float alpha = 1, beta = p.accumulate ? 1 : 0;
  std::vector<Run> calls;
  for (int i = 0; i < found; ++i) {
    if (suggested[i].status != 0) continue;
    calls.emplace_back([=, &lt, one = suggested[i], workspace = workspace_, stream = stream_](Ops&) {
      check(lt.matmul(lt.handle, desc, &alpha, b.data, first, a.data, second, &beta, c.data, result, c.data, result,
                      one.algorithm, workspace, kWorkspaceBytes, stream),
            "cublasLtMatmul");
    });
  }
  MOR_CHECK(!calls.empty(), INTERNAL, "cuBLASLt has no algorithm for ", p.m, " x ", p.n, " x ", p.k);
  return calls;
}

}  // namespace mor::bench
