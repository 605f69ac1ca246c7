// Cases of matrix products: those of one layer and of the head.
#include <numeric>

#include "bench/ops/case.h"

namespace mor::bench {

namespace {

struct Weight {
  const char* name;
  int64_t out, in;
};

/// y [R,out] = x [R,in] weight^T, and both of its backward products.
void add_linear(const Weight& weight, int64_t rows, Ops& ops, std::vector<Case>& cases) {
  const int64_t n = weight.out, k = weight.in;
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double r = static_cast<double>(rows), out = static_cast<double>(n), in = static_cast<double>(k);
  Case c;
  c.variant = rows == 1 ? std::string(weight.name) + "_1_row" : weight.name;
  c.flops = 2 * r * out * in;

  c.op = "linear_forward";
  c.bytes = size * (r * in + out * in + r * out);
  c.product = Product{rows, n, k, false, true, false};
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(rows, k), w = b.activations(n, k), y = b.activations(rows, n);
    return [=, &ops] { ops.linear_forward(x, w, {}, y); };
  };
  cases.push_back(c);
  if (rows == 1) return;

  c.op = "linear_backward_input";
  c.product = Product{rows, k, n, false, false, false};
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor d_y = b.activations(rows, n), w = b.activations(n, k), d_x = b.activations(rows, k);
    return [=, &ops] { ops.linear_backward_input(d_y, w, d_x); };
  };
  cases.push_back(c);

  c.op = "linear_backward_weight";
  c.bytes = size * (r * in + r * out) + 8 * out * in;
  c.product = Product{n, k, rows, true, false, true};
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor d_y = b.activations(rows, n), x = b.activations(rows, k), d_w = b.masters(n, k);
    return [=, &ops] { ops.linear_backward_weight(d_y, x, d_w); };
  };
  cases.push_back(c);
}

/// The projections of attention: many rows into one buffer, as in training, or one row into a slot, as in decoding.
/// extras: with bias and norms (Qwen2 has the one, Qwen3 the other), and keeping what the backward needs.
void add_qkv(const Shape& s, int64_t rows, bool extras, Ops& ops, std::vector<Case>& cases) {
  const int64_t query = s.query_size(), key_value = s.key_value_size(), n = query + 2 * key_value;
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double r = static_cast<double>(rows), out = static_cast<double>(n), in = static_cast<double>(s.hidden);
  const bool keeps = extras && rows > 1;
  Case c;
  c.op = "qkv_forward";
  c.variant = extras ? "bias_norms" : "";
  if (rows == 1) c.variant += extras ? "_1_row" : "1_row";
  c.flops = 2 * r * out * in;
  c.bytes = size * (r * in + out * in + (keeps ? 2 : 1) * r * out) + 4 * r * static_cast<double>(s.head_dim + 1);
  c.product = Product{rows, n, s.hidden, false, true, false};
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(rows, s.hidden), w = b.activations(n, s.hidden), qkv = b.activations(rows, n);
    const Tensor table = b.masters(rows, s.head_dim), projected = keeps ? b.activations(rows, n) : Tensor{};
    QkvTensors weights{w};
    if (extras) weights = {w, b.activation_vector(n), b.activation_vector(s.head_dim), b.activation_vector(s.head_dim)};
    std::vector<int32_t> numbers(static_cast<size_t>(rows));
    std::iota(numbers.begin(), numbers.end(), 0);
    const int32_t *position = b.integers(numbers), *slot = rows == 1 ? position : nullptr;
    const Tensor q = qkv.column_range(0, query).heads(s.head_dim);
    const Tensor k = qkv.column_range(query, key_value).heads(s.head_dim);
    const Tensor v = qkv.column_range(query + key_value, key_value).heads(s.head_dim);
    return [=, &ops] { ops.qkv_forward(x, weights, 1e-6, position, table, q, k, v, slot, projected); };
  };
  cases.push_back(c);
}

}  // namespace

void add_product_cases(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const Weight weights[] = {{"qkv", s.query_size() + 2 * s.key_value_size(), s.hidden},
                            {"o", s.hidden, s.query_size()},
                            {"gate_up", 2 * s.intermediate, s.hidden},
                            {"down", s.hidden, s.intermediate}};
  for (const int64_t rows : {s.rows, int64_t{1}}) {
    for (const Weight& weight : weights) add_linear(weight, rows, ops, cases);
    for (const bool extras : {false, true}) add_qkv(s, rows, extras, ops, cases);
  }

  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double r = static_cast<double>(s.rows), d = static_cast<double>(s.hidden),
               v = static_cast<double>(s.vocabulary);
  Case c;
  c.op = "cross_entropy_forward";
  c.flops = 2 * r * v * d;
  c.bytes = size * (r * d + v * d) + 8 * r;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.rows, s.hidden), w = b.activations(s.vocabulary, s.hidden);
    const Tensor losses = b.master_vector(s.rows);
    const int32_t* target = b.random_integers(s.rows, s.vocabulary);
    return [=, &ops] { ops.cross_entropy_forward(x, w, target, losses); };
  };
  cases.push_back(c);

  c.op = "cross_entropy_backward";
  c.flops *= 3;
  c.bytes += size * r * d + 8 * v * d;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.rows, s.hidden), w = b.activations(s.vocabulary, s.hidden);
    const Tensor losses = b.master_vector(s.rows), d_x = b.activations(s.rows, s.hidden);
    const Tensor d_w = b.masters(s.vocabulary, s.hidden);
    const int32_t* target = b.random_integers(s.rows, s.vocabulary);
    const double scale = 1 / static_cast<double>(s.rows);
    return [=, &ops] { ops.cross_entropy_backward(x, w, target, scale, losses, d_x, d_w); };
  };
  cases.push_back(c);
}

}  // namespace mor::bench
