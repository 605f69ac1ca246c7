// Launches: a graph of small kernels in a row, as in a step of decoding by one sequence.
#include "bench/gpu/probes/probes.h"

namespace mor::bench {

namespace {

constexpr int kKernels = 256, kBlocks = 64, kThreads = 128;
constexpr int kElements = kBlocks * kThreads;
constexpr int kReplays = 20;

/// to[i] = from[i + 1] + 1, around the end: an element is that of another block, so a kernel that did not wait for the
/// one before would be found out.
template <bool programmatic>
__global__ void small_kernel(const int* from, int* to) {
#if __CUDA_ARCH__ >= 900
  if constexpr (programmatic) {
    asm volatile("griddepcontrol.launch_dependents;");
    asm volatile("griddepcontrol.wait;" ::: "memory");
  }
#endif
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  to[i] = from[(i + kThreads) % kElements] + 1;
}

class Graph {
 public:
  template <class Work>
  Graph(cudaStream_t stream, const Work& work) {
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    work();
    cudaGraph_t graph = nullptr;
    check_cuda(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check_cuda(status, "cudaGraphInstantiate");
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(cudaStream_t stream) const { check_cuda(cudaGraphLaunch(executable_, stream), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

void launch_small(cudaStream_t stream, bool programmatic, const int* from, int* to) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(kBlocks);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = programmatic ? 1 : 0;
  const auto kernel = programmatic ? small_kernel<true> : small_kernel<false>;
  check_cuda(cudaLaunchKernelEx(&config, kernel, from, to), "small_kernel");
}

}  // namespace

void probe_graph(const GpuOptions& options, bool programmatic) {
  MOR_CHECK(!programmatic || options.gpu().major >= 9, DEVICE_TOO_OLD,
            "programmatic dependent launch needs compute capability 9.0, and this GPU has ", options.gpu().major, ".",
            options.gpu().minor);
  std::vector<int> start(kElements);
  for (int i = 0; i < kElements; ++i) start[static_cast<size_t>(i)] = i;
  const DeviceArray<int> even(start), odd(start.size());
  Timer timer;
  const auto kernels = [&] {
    for (int i = 0; i < kKernels; i += 2) {
      launch_small(timer.stream(), programmatic, even.data(), odd.data());
      launch_small(timer.stream(), programmatic, odd.data(), even.data());
    }
  };
  const Graph graph(timer.stream(), kernels);
  graph.launch(timer.stream());
  check_cuda(cudaStreamSynchronize(timer.stream()), "cudaStreamSynchronize");
  const std::vector<int> found = even.values();
  for (int i = 0; i < kElements; ++i) {
    const int expected = (i + kKernels * kThreads) % kElements + kKernels;
    MOR_CHECK(found[static_cast<size_t>(i)] == expected, INTERNAL, "after ", kKernels, " kernels element ", i, " is ",
              found[static_cast<size_t>(i)], " and not ", expected);
  }
  const char* suffix = programmatic ? "_programmatic" : "";
  const std::vector<double> replayed = timer.seconds(options.samples, [&] {
    for (int i = 0; i < kReplays; ++i) graph.launch(timer.stream());
  });
  std::vector<double> each;
  for (const double s : replayed) each.push_back(1e6 * s / (kReplays * kKernels));
  print_figure(concat("graph_kernel", suffix), each, "µs", concat("of ", kKernels, " in a graph"));
  each.clear();
  for (const double s : timer.seconds(options.samples, kernels)) each.push_back(1e6 * s / kKernels);
  print_figure(concat("stream_kernel", suffix), each, "µs", concat("of ", kKernels, " launched one by one"));
}

}  // namespace mor::bench
