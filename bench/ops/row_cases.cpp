// Cases of ops over rows of activations, which memory bounds.
#include "bench/ops/case.h"

namespace mor::bench {

namespace {

/// Half of the rows, each once and in rising order, like the rows that a recursion selects of its parent.
int32_t* every_second(Buffers& b, int64_t rows) {
  return b.counting((rows + 1) / 2, 0, 2);
}

void add_embedding(const Shape& s, Cases& cases) {
  const double elements = static_cast<double>(s.batch_rows * s.hidden), rows = static_cast<double>(s.batch_rows);
  cases.add({.op = "embedding_forward", .bytes = 2 * s.size * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor weight = b.activations(s.vocabulary, s.hidden), out = b.activations(s.batch_rows, s.hidden);
    const int32_t* tokens = b.random_integers(s.batch_rows, s.vocabulary);
    return [=](Ops& ops) { ops.embedding_forward(tokens, weight, out); };
  });
  cases.add({.op = "embedding_backward", .bytes = (s.size + 8) * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor d_weight = b.masters(s.vocabulary, s.hidden), d_out = b.activations(s.batch_rows, s.hidden);
    const int32_t* tokens = b.random_integers(s.batch_rows, s.vocabulary);
    return [=](Ops& ops) { ops.embedding_backward(tokens, d_out, d_weight); };
  });
}

void add_rmsnorm(const Shape& s, Cases& cases) {
  const double elements = static_cast<double>(s.batch_rows * s.hidden), rows = static_cast<double>(s.batch_rows);
  cases.add({.op = "rmsnorm_forward", .bytes = 2 * s.size * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), y = b.activations(s.batch_rows, s.hidden);
    const Tensor weight = b.activation_vector(s.hidden), rstd = b.master_vector(s.batch_rows);
    return [=](Ops& ops) { ops.rmsnorm_forward(x, nullptr, weight, 1e-5, {}, y, rstd); };
  });
  const double gathered = 1.5 * s.size * elements + 4 * rows;
  cases.add({.op = "rmsnorm_forward", .variant = "gathered", .bytes = gathered}, [=](Buffers& b) -> Run {
    const int64_t n = (s.batch_rows + 1) / 2;
    const Tensor x = b.activations(s.batch_rows, s.hidden), packed = b.activations(n, s.hidden);
    const Tensor y = b.activations(n, s.hidden), weight = b.activation_vector(s.hidden), rstd = b.master_vector(n);
    const int32_t* source = every_second(b, s.batch_rows);
    return [=](Ops& ops) { ops.rmsnorm_forward(x, source, weight, 1e-5, packed, y, rstd); };
  });
  cases.add({.op = "rmsnorm_backward", .bytes = 4 * s.size * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor d_y = b.activations(s.batch_rows, s.hidden), packed = b.activations(s.batch_rows, s.hidden);
    const Tensor d_packed = b.activations(s.batch_rows, s.hidden), weight = b.activation_vector(s.hidden);
    const Tensor rstd = b.positive_vector(s.batch_rows), d_weight = b.master_vector(s.hidden);
    return [=](Ops& ops) { ops.rmsnorm_backward(d_y, packed, weight, rstd, d_packed, d_weight); };
  });
}

void add_elementwise(const Shape& s, Cases& cases) {
  const double inner = static_cast<double>(s.batch_rows * s.intermediate);
  cases.add({.op = "swiglu_backward", .bytes = 5 * s.size * inner}, [=](Buffers& b) -> Run {
    const Tensor gate_up = b.activations(s.batch_rows, 2 * s.intermediate),
                 d_out = b.activations(s.batch_rows, s.intermediate);
    const Tensor d_gate_up = b.activations(s.batch_rows, 2 * s.intermediate);
    return [=](Ops& ops) { ops.swiglu_backward(d_out, gate_up, d_gate_up); };
  });
  const double turned = static_cast<double>(s.batch_rows * (s.query_size() + s.key_value_size()));
  const double angles = 4 * static_cast<double>(s.batch_rows * (s.head_dim + 1));
  cases.add({.op = "rotary", .bytes = 2 * s.size * turned + angles}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.query_size() + s.key_value_size()).heads(s.head_dim);
    const Tensor table = b.masters(s.batch_rows, s.head_dim);
    const int32_t* position = b.counting(s.batch_rows);
    return [=](Ops& ops) { ops.rotary(x, position, table, 1); };
  });
  const double written = static_cast<double>(s.batch_rows * s.key_value_size());
  cases.add({.op = "kv_write", .bytes = 2 * s.size * written}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.key_value_size()).heads(s.head_dim);
    const Tensor cache = b.activations(2 * s.batch_rows, s.key_value_size()).heads(s.head_dim);
    const int32_t* slot = every_second(b, 2 * s.batch_rows);
    return [=](Ops& ops) { ops.kv_write(x, slot, cache); };
  });
}

/// From gradients of q, k and v beside each other to those of the projections. extras: with bias and norms.
void add_qkv_backward(const Shape& s, bool extras, Cases& cases) {
  const int64_t n = s.query_size() + 2 * s.key_value_size();
  const double values = static_cast<double>(s.key_value_size()), normed = static_cast<double>(n) - values;
  Case c{.op = "qkv_backward", .variant = extras ? "bias_norms" : ""};
  c.bytes = static_cast<double>(s.batch_rows) *
            (s.size * (extras ? 3 * normed + values : 2 * normed) + 4 * static_cast<double>(s.head_dim + 1));
  cases.add(c, [=](Buffers& b) -> Run {
    const QkvHeads d = qkv_heads(b.activations(s.batch_rows, n), s.query_size(), s.head_dim);
    const Tensor table = b.masters(s.batch_rows, s.head_dim);
    const Tensor projected = extras ? b.activations(s.batch_rows, n) : Tensor{};
    QkvTensors weights, gradients;
    if (extras) {
      weights = {{}, b.activation_vector(n), b.activation_vector(s.head_dim), b.activation_vector(s.head_dim)};
      gradients = {{}, b.master_vector(n), b.master_vector(s.head_dim), b.master_vector(s.head_dim)};
    }
    const int32_t* position = b.counting(s.batch_rows);
    return [=](Ops& ops) { ops.qkv_backward(d.q, d.k, d.v, projected, weights, 1e-6, position, table, gradients); };
  });
}

/// Gather, add and gated scatter of every second row.
void add_moves(const Shape& s, Cases& cases) {
  const int64_t n = (s.batch_rows + 1) / 2;
  const double moved = static_cast<double>(n * s.hidden), indices = 4 * static_cast<double>(n);
  cases.add({.op = "gather_rows", .bytes = 2 * s.size * moved + indices}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), y = b.activations(n, s.hidden);
    const int32_t* source = every_second(b, s.batch_rows);
    return [=](Ops& ops) { ops.gather_rows(x, source, y); };
  });
  cases.add({.op = "add_rows", .bytes = 3 * s.size * moved + indices}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), y = b.activations(s.batch_rows, s.hidden);
    const int32_t* source = every_second(b, s.batch_rows);
    return [=](Ops& ops) { ops.add_rows(x, source, y); };
  });
  cases.add({.op = "scatter_gated_forward", .bytes = 3 * s.size * moved + 2 * indices}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), stream = b.activations(s.batch_rows, s.hidden),
                 gate = b.master_vector(n);
    const int32_t* to = every_second(b, s.batch_rows);
    return [=](Ops& ops) { ops.scatter_gated_forward(x, nullptr, gate, to, stream); };
  });
  cases.add({.op = "scatter_gated_backward", .bytes = 3 * s.size * moved + 3 * indices}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), d_stream = b.activations(s.batch_rows, s.hidden);
    const Tensor d_x = b.activations(n, s.hidden), gate = b.master_vector(n), d_gate = b.master_vector(n);
    const int32_t* to = every_second(b, s.batch_rows);
    return [=](Ops& ops) { ops.scatter_gated_backward(d_stream, to, x, nullptr, gate, d_x, d_gate); };
  });
}

}  // namespace

void add_row_cases(const Shape& shape, Cases& cases) {
  add_embedding(shape, cases);
  add_rmsnorm(shape, cases);
  add_elementwise(shape, cases);
  for (const bool extras : {false, true}) add_qkv_backward(shape, extras, cases);
  add_moves(shape, cases);
}

}  // namespace mor::bench
