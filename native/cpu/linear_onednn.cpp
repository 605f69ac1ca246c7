// OnednnMatmul: a cache of oneDNN's matmul primitives, which drops the least recently used.
#include "cpu/linear_onednn.h"

#include <omp.h>

#include <algorithm>
#include <list>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "core/check.h"
#include "cpu/team.h"

namespace mor::MOR_CPU_ISA {

namespace {

// A training step needs about a dozen shapes for every distinct row count, and token-choice routing has new row counts
// in every step. This is enough for many recursions and limits the memory of generated code.
constexpr size_t kCapacity = 256;

dnnl::memory::data_type data_type(DType dtype) {
  return dtype == DType::bfloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::memory::desc matrix(int64_t rows, int64_t columns, DType dtype, int64_t row, int64_t column) {
  return {{rows, columns}, data_type(dtype), dnnl::memory::dims{row, column}};
}

struct Hash {
  size_t operator()(const Product& p) const {
    size_t h = 0;
    for (const int64_t x :
         {p.m, p.n, p.k, p.a_row, p.a_column, p.b_row, p.b_column, p.c_row, p.addend_row,
          static_cast<int64_t>(p.addend), static_cast<int64_t>(p.input) * 16, static_cast<int64_t>(p.output)})
      h = (h ^ static_cast<size_t>(x)) * 0x9e3779b97f4a7c15u + (h >> 29);
    return h;
  }
};

struct Entry {
  Product product;
  dnnl::matmul primitive;
  dnnl::memory a, b, addend, c, scratchpad;
  std::unordered_map<int, dnnl::memory> arguments;
};

Entry make_entry(const Product& p, const dnnl::engine& engine) {
  const auto a = matrix(p.m, p.k, p.input, p.a_row, p.a_column);
  const auto b = matrix(p.k, p.n, p.input, p.b_row, p.b_column);
  const auto c = matrix(p.m, p.n, p.output, p.c_row, 1);
  const bool one_row = p.addend_row == 0;
  const auto addend = matrix(one_row ? 1 : p.m, p.n, p.input, one_row ? p.n : p.addend_row, 1);
  dnnl::post_ops post_ops;
  if (p.addend == Product::Addend::c) post_ops.append_sum(1.0f);
  if (p.addend == Product::Addend::matrix) post_ops.append_binary(dnnl::algorithm::binary_add, addend);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post_ops);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, a, b, c, attributes);
#else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine);
#endif
  const auto unset = [&](const dnnl::memory::desc& of) { return dnnl::memory(of, engine, nullptr); };
  Entry entry{
      p, dnnl::matmul(description), unset(a), unset(b), unset(addend), unset(c), unset(description.scratchpad_desc()),
      {}};
  entry.arguments = {{DNNL_ARG_SRC, entry.a},
                     {DNNL_ARG_WEIGHTS, entry.b},
                     {DNNL_ARG_DST, entry.c},
                     {DNNL_ARG_SCRATCHPAD, entry.scratchpad}};
  if (p.addend == Product::Addend::matrix)
    entry.arguments.insert({DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, entry.addend});
  return entry;
}

}  // namespace

/// The primitives for one slice of the output. A slice runs one product at a time.
class OnednnMatmul::Slice {
 public:
  void multiply(const Product& product, const void* a, const void* b, const void* addend, void* c) {
    try {
      Entry& entry = entry_of(product);
      entry.a.set_data_handle(const_cast<void*>(a));
      entry.b.set_data_handle(const_cast<void*>(b));
      entry.addend.set_data_handle(const_cast<void*>(addend));
      entry.c.set_data_handle(c);
      entry.scratchpad.set_data_handle(scratchpad_of(entry.scratchpad.get_desc().get_size()));
      entry.primitive.execute(stream_, entry.arguments);
      stream_.wait();
    } catch (const dnnl::error& error) {
      MOR_CHECK(error.status != dnnl_out_of_memory, OUT_OF_MEMORY, "linear: oneDNN found no memory for ", product.m,
                " x ", product.n, " x ", product.k);
      MOR_FAIL(INTERNAL, "linear: oneDNN refuses ", product.m, " x ", product.n, " x ", product.k, " in ",
               dtype_name(product.input), ": ", error.what());
    }
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::list<Entry> entries_;  ///< the most recently used first
  std::unordered_map<Product, std::list<Entry>::iterator, Hash> found_;
  dnnl::memory scratchpad_;  ///< shared by all primitives of the slice
  size_t scratchpad_bytes_ = 0;

  Entry& entry_of(const Product& product) {
    const auto known = found_.find(product);
    if (known != found_.end()) {
      entries_.splice(entries_.begin(), entries_, known->second);
      return entries_.front();
    }
    if (entries_.size() == kCapacity) {
      found_.erase(entries_.back().product);
      entries_.pop_back();
    }
    entries_.push_front(make_entry(product, engine_));
    found_[product] = entries_.begin();
    return entries_.front();
  }

  void* scratchpad_of(size_t bytes) {
    if (bytes > scratchpad_bytes_) {
      using memory = dnnl::memory;
      scratchpad_ = memory({{static_cast<int64_t>(bytes)}, memory::data_type::u8, memory::format_tag::a}, engine_);
      scratchpad_bytes_ = bytes;
    }
    return scratchpad_bytes_ == 0 ? nullptr : scratchpad_.get_data_handle();
  }
};

OnednnMatmul::OnednnMatmul() = default;
OnednnMatmul::~OnednnMatmul() = default;

void OnednnMatmul::multiply(const Product& product, const void* a, const void* b, const void* addend, void* c,
                            int threads) {
  constexpr int64_t kWidth =
      32;  // slices end at multiples of it, so that at most one slice has a partial vector at its end
  const bool by_columns = product.n >= product.m;
  const int64_t strips = ((by_columns ? product.n : product.m) + kWidth - 1) / kWidth;
  const int64_t slices = std::min<int64_t>(threads, strips);
  while (static_cast<int64_t>(slices_.size()) < slices) slices_.push_back(std::make_unique<Slice>());
  Team::of_process().run(slices, threads, [&](int64_t i, int) {
    omp_set_num_threads(1);  // or oneDNN, which computes with OpenMP, would start a team of its own in this thread
    const int64_t begin = strips * i / slices * kWidth, end = strips * (i + 1) / slices * kWidth;
    Product slice = product;
    const auto moved = [&](const void* data, int64_t stride, DType dtype) -> void* {
      if (data == nullptr) return nullptr;
      return static_cast<char*>(const_cast<void*>(data)) + begin * stride * static_cast<int64_t>(dtype_size(dtype));
    };
    if (by_columns) {
      slice.n = std::min(end, product.n) - begin;
      slices_[i]->multiply(slice, a, moved(b, product.b_column, product.input), moved(addend, 1, product.input),
                           moved(c, 1, product.output));
    } else {
      slice.m = std::min(end, product.m) - begin;
      slices_[i]->multiply(slice, moved(a, product.a_row, product.input), b,
                           moved(addend, product.addend_row, product.input), moved(c, product.c_row, product.output));
    }
  });
}

}  // namespace mor::MOR_CPU_ISA
