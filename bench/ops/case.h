// Case: one op at one shape, and the FLOPs and bytes that it takes at least.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/ops/buffers.h"

namespace mor::bench {

/// So many sequences of so many rows each.
struct Sequences {
  int64_t count = 0, length = 0;
  int64_t rows() const { return count * length; }
};

/// The sizes of a model, and how many rows the cases have.
struct Shape {
  std::vector<int64_t> rows{};         ///< of matrix products, one case for each
  std::vector<Sequences> attention{};  ///< one case for each
  int64_t batch_rows = 0;              ///< of ops that memory bounds
  int64_t hidden = 0, intermediate = 0, heads = 0, key_value_heads = 0, head_dim = 0, vocabulary = 0;
  double size = 0;  ///< bytes of an element of the compute dtype
  int64_t query_size() const { return heads * head_dim; }
  int64_t key_value_size() const { return key_value_heads * head_dim; }
};

/// C[m,n] = A[m,k] B[k,n] in bf16 with float32 accumulation, for a rival that knows nothing else. A transposed operand
/// is stored as [k,m] or [n,k].
struct Product {
  int64_t m = 0, n = 0, k = 0;
  bool a_transposed = false, b_transposed = false;
  bool accumulate = false;  ///< C is float32 and +=, else bf16 and =
};

using Run = std::function<void(Ops& ops)>;

struct Case {
  std::string op{};                  ///< as in ops/op_list.h
  std::string variant{};             ///< which of the model's uses or shapes, where there are several; else empty
  double flops = 0;                  ///< multiplications and additions of matrix products; 0 for ops bound by memory
  double bytes = 0;                  ///< of every input read once and every output written once (+=: read and written)
  bool waits = false;                ///< whether a call waits for its result on the host
  std::optional<Product> product{};  ///< the same as a bare matrix product
  std::function<Run(Buffers&)> make{};  ///< allocates inputs and outputs of its own, and returns the call
};

inline std::string case_name(const Case& c) {
  return c.variant.empty() ? c.op : c.op + " " + c.variant;
}

class Cases {
 public:
  void add(Case c, std::function<Run(Buffers&)> make) {
    c.make = std::move(make);
    list_.push_back(std::move(c));
  }
  const std::vector<Case>& list() const { return list_; }

 private:
  std::vector<Case> list_;
};

/// The bare products of a training step, forward and both backwards: each projection, the head, and 1024 cubed.
void add_linear_cases(const Shape& shape, Cases& cases);
/// The products of square matrices with as many rows as shape.rows says, forward and both backwards.
void add_cube_cases(const Shape& shape, Cases& cases);
/// Matrix products: linear, cross_entropy.
void add_product_cases(const Shape& shape, Cases& cases);
/// attention over whole sequences, and over paged caches for decoding.
void add_attention_cases(const Shape& shape, Cases& cases);
/// Ops over rows of activations, bound by memory.
void add_row_cases(const Shape& shape, Cases& cases);
/// Routers, selection, losses, sampling.
void add_routing_cases(const Shape& shape, Cases& cases);
/// global_norm and adamw.
void add_optimizer_cases(const Shape& shape, Cases& cases);

}  // namespace mor::bench
