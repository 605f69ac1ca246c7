// Cases of matrix products: those of one layer and of the head.
#include <utility>

#include "bench/ops/case.h"

namespace mor::bench {

namespace {

struct Weight {
  int64_t out, in;
};

/// Of one layer.
std::vector<std::pair<const char*, Weight>> projections(const Shape& s) {
  return {{"qkv", {s.query_size() + 2 * s.key_value_size(), s.hidden}},
          {"o", {s.hidden, s.query_size()}},
          {"gate_up", {2 * s.intermediate, s.hidden}},
          {"down", {s.hidden, s.intermediate}}};
}

/// The end of a variant that says how many rows it has.
std::string of_rows(int64_t rows) {
  return concat(rows, rows == 1 ? "_row" : "_rows");
}

/// y [R,out] = x [R,in] weight^T, and both of its backward products.
void add_linear(const Shape& s, const Weight& weight, const std::string& variant, int64_t rows, Cases& cases) {
  const int64_t n = weight.out, k = weight.in;
  const double r = static_cast<double>(rows), out = static_cast<double>(n), in = static_cast<double>(k);
  Case c{.variant = variant, .flops = 2 * r * out * in};
  c.op = "linear_forward";
  c.bytes = s.size * (r * in + out * in + r * out);
  c.product = Product{rows, n, k, false, true, false};
  cases.add(c, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(rows, k), w = b.activations(n, k), y = b.activations(rows, n);
    return [=](Ops& ops) { ops.linear_forward(x, w, {}, y); };
  });
  if (rows == 1) return;

  c.op = "linear_backward_input";
  c.product = Product{rows, k, n, false, false, false};
  cases.add(c, [=](Buffers& b) -> Run {
    const Tensor d_y = b.activations(rows, n), w = b.activations(n, k), d_x = b.activations(rows, k);
    return [=](Ops& ops) { ops.linear_backward_input(d_y, w, d_x); };
  });

  c.op = "linear_backward_weight";
  c.bytes = s.size * (r * in + r * out) + 8 * out * in;
  c.product = Product{n, k, rows, true, false, true};
  cases.add(c, [=](Buffers& b) -> Run {
    const Tensor d_y = b.activations(rows, n), x = b.activations(rows, k), d_w = b.masters(n, k);
    return [=](Ops& ops) { ops.linear_backward_weight(d_y, x, d_w); };
  });
}

/// The projections of attention: many rows into one buffer, as in training, or one row into a slot, as in decoding.
/// extras: with bias and norms (Qwen2 has the one, Qwen3 the other), and keeping what the backward needs.
void add_qkv(const Shape& s, int64_t rows, bool extras, Cases& cases) {
  const int64_t n = s.query_size() + 2 * s.key_value_size();
  const double r = static_cast<double>(rows), out = static_cast<double>(n), in = static_cast<double>(s.hidden);
  const bool keeps = extras && rows > 1;
  Case c{.op = "qkv_forward", .variant = (extras ? "bias_norms_" : "") + of_rows(rows), .flops = 2 * r * out * in};
  c.bytes = s.size * (r * in + out * in + (keeps ? 2 : 1) * r * out) + 4 * r * static_cast<double>(s.head_dim + 1);
  c.product = Product{rows, n, s.hidden, false, true, false};
  cases.add(c, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(rows, s.hidden), w = b.activations(n, s.hidden);
    const QkvHeads to = qkv_heads(b.activations(rows, n), s.query_size(), s.head_dim);
    const Tensor table = b.masters(rows, s.head_dim), projected = keeps ? b.activations(rows, n) : Tensor{};
    QkvTensors weights{w};
    if (extras) weights = {w, b.activation_vector(n), b.activation_vector(s.head_dim), b.activation_vector(s.head_dim)};
    const int32_t *position = b.counting(rows), *slot = rows == 1 ? position : nullptr;
    return [=](Ops& ops) { ops.qkv_forward(x, weights, 1e-6, position, table, to.q, to.k, to.v, slot, projected); };
  });
}

/// Gate and up with swiglu: in training they are kept, in generation not.
void add_swiglu(const Shape& s, int64_t rows, bool keeps, Cases& cases) {
  const int64_t f = s.intermediate;
  const double r = static_cast<double>(rows), inner = static_cast<double>(f), in = static_cast<double>(s.hidden);
  Case c{.op = "swiglu_forward", .variant = (keeps ? "kept_" : "") + of_rows(rows), .flops = 4 * r * inner * in};
  c.bytes = s.size * (r * in + 2 * inner * in + (keeps ? 3 : 1) * r * inner);
  c.product = Product{rows, 2 * f, s.hidden, false, true, false};
  cases.add(c, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(rows, s.hidden), w = b.activations(2 * f, s.hidden);
    const Tensor gate_up = keeps ? b.activations(rows, 2 * f) : Tensor{}, out = b.activations(rows, f);
    return [=](Ops& ops) { ops.swiglu_forward(x, w, gate_up, out); };
  });
}

/// The head with its loss, forward and both ways.
void add_cross_entropy(const Shape& s, int64_t rows, Cases& cases) {
  const double r = static_cast<double>(rows), d = static_cast<double>(s.hidden), v = static_cast<double>(s.vocabulary);
  const double flops = 2 * r * v * d, bytes = s.size * (r * d + v * d) + 8 * r;
  cases.add({.op = "cross_entropy_forward", .variant = of_rows(rows), .flops = flops, .bytes = bytes},
            [=](Buffers& b) -> Run {
              const Tensor x = b.activations(rows, s.hidden), w = b.activations(s.vocabulary, s.hidden);
              const Tensor losses = b.master_vector(rows);
              const int32_t* target = b.random_integers(rows, s.vocabulary);
              return [=](Ops& ops) { ops.cross_entropy_forward(x, w, target, losses); };
            });
  const double gradients = s.size * r * d + 8 * v * d;
  cases.add({.op = "cross_entropy_backward", .variant = of_rows(rows), .flops = 3 * flops, .bytes = bytes + gradients},
            [=](Buffers& b) -> Run {
              const Tensor x = b.activations(rows, s.hidden), w = b.activations(s.vocabulary, s.hidden);
              const Tensor losses = b.master_vector(rows), d_x = b.activations(rows, s.hidden);
              const Tensor d_w = b.masters(s.vocabulary, s.hidden);
              const int32_t* target = b.random_integers(rows, s.vocabulary);
              return [=](Ops& ops) { ops.cross_entropy_backward(x, w, target, 1 / r, losses, d_x, d_w); };
            });
  cases.add({.op = "distillation", .variant = of_rows(rows), .flops = 4 * flops, .bytes = 2 * bytes + gradients},
            [=](Buffers& b) -> Run {
              const Tensor x = b.activations(rows, s.hidden), w = b.activations(s.vocabulary, s.hidden);
              const Tensor teacher_x = b.activations(rows, s.hidden), teacher_w = b.activations(s.vocabulary, s.hidden);
              const Tensor losses = b.master_vector(rows), divergences = b.master_vector(rows);
              const Tensor d_x = b.activations(rows, s.hidden), d_w = b.masters(s.vocabulary, s.hidden);
              const int32_t* target = b.random_integers(rows, s.vocabulary);
              const DistillationParams params{2, 0.5 / r, 0.5 / r};
              return [=](Ops& ops) {
                ops.distillation(x, w, teacher_x, teacher_w, target, params, losses, divergences, d_x, d_w);
              };
            });
}

}  // namespace

void add_linear_cases(const Shape& s, Cases& cases) {
  add_linear(s, {1024, 1024}, "1024", 1024, cases);
  for (const auto& [name, weight] : projections(s)) add_linear(s, weight, name, s.rows.front(), cases);
  add_linear(s, {s.vocabulary, s.hidden}, "head", s.rows.front(), cases);
}

void add_cube_cases(const Shape& s, Cases& cases) {
  for (const int64_t rows : s.rows) add_linear(s, {rows, rows}, concat("cube_", rows), rows, cases);
}

void add_product_cases(const Shape& s, Cases& cases) {
  std::vector<int64_t> all = s.rows;
  all.push_back(1);
  for (const int64_t rows : all) {
    for (const auto& [name, weight] : projections(s))
      add_linear(s, weight, concat(name, "_", of_rows(rows)), rows, cases);
    for (const bool extras : {false, true}) add_qkv(s, rows, extras, cases);
    for (const bool keeps : {false, true}) add_swiglu(s, rows, keeps, cases);
  }
  for (const int64_t rows : s.rows) add_cross_entropy(s, rows, cases);
}

}  // namespace mor::bench
