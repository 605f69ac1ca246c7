// Cases of ops over rows of activations, which memory bounds.
#include <numeric>

#include "bench/ops/case.h"

namespace mor::bench {

namespace {

/// Half of the rows, each once and in rising order, like the rows that a recursion selects of its parent.
std::vector<int32_t> every_second(int64_t rows) {
  std::vector<int32_t> kept;
  for (int64_t i = 0; i < rows; i += 2) kept.push_back(static_cast<int32_t>(i));
  return kept;
}

void add_embedding(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double elements = static_cast<double>(s.batch_rows * s.hidden), rows = static_cast<double>(s.batch_rows);
  Case c;
  c.op = "embedding_forward";
  c.bytes = 2 * size * elements + 4 * rows;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor weight = b.activations(s.vocabulary, s.hidden), out = b.activations(s.batch_rows, s.hidden);
    const int32_t* tokens = b.random_integers(s.batch_rows, s.vocabulary);
    return [=, &ops] { ops.embedding_forward(tokens, weight, out); };
  };
  cases.push_back(c);
  c.op = "embedding_backward";
  c.bytes = (size + 8) * elements + 4 * rows;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor d_weight = b.masters(s.vocabulary, s.hidden), d_out = b.activations(s.batch_rows, s.hidden);
    const int32_t* tokens = b.random_integers(s.batch_rows, s.vocabulary);
    return [=, &ops] { ops.embedding_backward(tokens, d_out, d_weight); };
  };
  cases.push_back(c);
}

void add_rmsnorm(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double elements = static_cast<double>(s.batch_rows * s.hidden), rows = static_cast<double>(s.batch_rows);
  Case c;
  c.op = "rmsnorm_forward";
  c.bytes = 2 * size * elements + 4 * rows;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), y = b.activations(s.batch_rows, s.hidden);
    const Tensor weight = b.activation_vector(s.hidden), rstd = b.master_vector(s.batch_rows);
    return [=, &ops] { ops.rmsnorm_forward(x, nullptr, weight, 1e-5, {}, y, rstd); };
  };
  cases.push_back(c);
  c.variant = "gathered";
  c.bytes = 1.5 * size * elements + 4 * rows;
  c.make = [=, &ops](Buffers& b) -> Run {
    const std::vector<int32_t> kept = every_second(s.batch_rows);
    const auto n = static_cast<int64_t>(kept.size());
    const Tensor x = b.activations(s.batch_rows, s.hidden), packed = b.activations(n, s.hidden);
    const Tensor y = b.activations(n, s.hidden), weight = b.activation_vector(s.hidden), rstd = b.master_vector(n);
    const int32_t* source = b.integers(kept);
    return [=, &ops] { ops.rmsnorm_forward(x, source, weight, 1e-5, packed, y, rstd); };
  };
  cases.push_back(c);
  c.op = "rmsnorm_backward";
  c.variant.clear();
  c.bytes = 4 * size * elements + 4 * rows;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor d_y = b.activations(s.batch_rows, s.hidden), packed = b.activations(s.batch_rows, s.hidden);
    const Tensor d_packed = b.activations(s.batch_rows, s.hidden), weight = b.activation_vector(s.hidden);
    const Tensor rstd = b.positive_vector(s.batch_rows), d_weight = b.master_vector(s.hidden);
    return [=, &ops] { ops.rmsnorm_backward(d_y, packed, weight, rstd, d_packed, d_weight); };
  };
  cases.push_back(c);
}

void add_elementwise(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double inner = static_cast<double>(s.batch_rows * s.intermediate);
  Case c;
  c.op = "swiglu_forward";
  c.bytes = 3 * size * inner;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor gate_up = b.activations(s.batch_rows, 2 * s.intermediate),
                 out = b.activations(s.batch_rows, s.intermediate);
    return [=, &ops] { ops.swiglu_forward(gate_up, out); };
  };
  cases.push_back(c);
  c.op = "swiglu_backward";
  c.bytes = 5 * size * inner;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor gate_up = b.activations(s.batch_rows, 2 * s.intermediate),
                 d_out = b.activations(s.batch_rows, s.intermediate);
    const Tensor d_gate_up = b.activations(s.batch_rows, 2 * s.intermediate);
    return [=, &ops] { ops.swiglu_backward(d_out, gate_up, d_gate_up); };
  };
  cases.push_back(c);
  c.op = "rotary";
  const double turned = static_cast<double>(s.batch_rows * (s.query_size() + s.key_value_size()));
  c.bytes = 2 * size * turned + 4 * static_cast<double>(s.batch_rows * (s.head_dim + 1));
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.query_size() + s.key_value_size()).heads(s.head_dim);
    const Tensor table = b.masters(s.batch_rows, s.head_dim);
    std::vector<int32_t> positions(static_cast<size_t>(s.batch_rows));
    std::iota(positions.begin(), positions.end(), 0);
    const int32_t* position = b.integers(positions);
    return [=, &ops] { ops.rotary(x, position, table, 1); };
  };
  cases.push_back(c);
  c.op = "kv_write";
  c.bytes = 2 * size * static_cast<double>(s.batch_rows * s.key_value_size());
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.key_value_size()).heads(s.head_dim);
    const Tensor cache = b.activations(2 * s.batch_rows, s.key_value_size()).heads(s.head_dim);
    const int32_t* slot = b.integers(every_second(2 * s.batch_rows));
    return [=, &ops] { ops.kv_write(x, slot, cache); };
  };
  cases.push_back(c);
}

/// From gradients of q, k and v beside each other to those of the projections. extras: with bias and norms.
void add_qkv_backward(const Shape& s, bool extras, Ops& ops, std::vector<Case>& cases) {
  const int64_t query = s.query_size(), key_value = s.key_value_size(), n = query + 2 * key_value;
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const double normed = static_cast<double>(query + key_value), values = static_cast<double>(key_value);
  Case c;
  c.op = "qkv_backward";
  c.variant = extras ? "bias_norms" : "";
  c.bytes = static_cast<double>(s.batch_rows) *
            (size * (extras ? 3 * normed + values : 2 * normed) + 4 * static_cast<double>(s.head_dim + 1));
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor d = b.activations(s.batch_rows, n), table = b.masters(s.batch_rows, s.head_dim);
    const Tensor projected = extras ? b.activations(s.batch_rows, n) : Tensor{};
    QkvTensors weights, gradients;
    if (extras) {
      weights = {{}, b.activation_vector(n), b.activation_vector(s.head_dim), b.activation_vector(s.head_dim)};
      gradients = {{}, b.master_vector(n), b.master_vector(s.head_dim), b.master_vector(s.head_dim)};
    }
    std::vector<int32_t> positions(static_cast<size_t>(s.batch_rows));
    std::iota(positions.begin(), positions.end(), 0);
    const int32_t* position = b.integers(positions);
    const Tensor d_q = d.column_range(0, query).heads(s.head_dim);
    const Tensor d_k = d.column_range(query, key_value).heads(s.head_dim);
    const Tensor d_v = d.column_range(query + key_value, key_value).heads(s.head_dim);
    return [=, &ops] { ops.qkv_backward(d_q, d_k, d_v, projected, weights, 1e-6, position, table, gradients); };
  };
  cases.push_back(c);
}

/// Gather, add and gated scatter of every second row.
void add_moves(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const std::vector<int32_t> kept = every_second(s.batch_rows);
  const auto n = static_cast<int64_t>(kept.size());
  const double moved = static_cast<double>(n * s.hidden), indices = 4 * static_cast<double>(n);
  Case c;
  c.op = "gather_rows";
  c.bytes = 2 * size * moved + indices;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), y = b.activations(n, s.hidden);
    const int32_t* source = b.integers(kept);
    return [=, &ops] { ops.gather_rows(x, source, y); };
  };
  cases.push_back(c);
  c.op = "add_rows";
  c.bytes = 3 * size * moved + indices;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), y = b.activations(s.batch_rows, s.hidden);
    const int32_t* source = b.integers(kept);
    return [=, &ops] { ops.add_rows(x, source, y); };
  };
  cases.push_back(c);
  c.op = "scatter_gated_forward";
  c.bytes = 3 * size * moved + 2 * indices;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), stream = b.activations(s.batch_rows, s.hidden),
                 gate = b.master_vector(n);
    const int32_t* to = b.integers(kept);
    return [=, &ops] { ops.scatter_gated_forward(x, nullptr, gate, to, stream); };
  };
  cases.push_back(c);
  c.op = "scatter_gated_backward";
  c.bytes = 3 * size * moved + 3 * indices;
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor x = b.activations(n, s.hidden), d_stream = b.activations(s.batch_rows, s.hidden);
    const Tensor d_x = b.activations(n, s.hidden), gate = b.master_vector(n), d_gate = b.master_vector(n);
    const int32_t* to = b.integers(kept);
    return [=, &ops] { ops.scatter_gated_backward(d_stream, to, x, nullptr, gate, d_x, d_gate); };
  };
  cases.push_back(c);
}

}  // namespace

void add_row_cases(const Shape& shape, Ops& ops, std::vector<Case>& cases) {
  add_embedding(shape, ops, cases);
  add_rmsnorm(shape, ops, cases);
  add_elementwise(shape, ops, cases);
  for (const bool extras : {false, true}) add_qkv_backward(shape, extras, ops, cases);
  add_moves(shape, ops, cases);
}

}  // namespace mor::bench
