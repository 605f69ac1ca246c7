// Tests of qkv_backward: the reference against the complex step, every device against the reference, and, without bias
// and norms, bit for bit against rotary in direction -1.
#include "test/ops/qkv_forms.h"

namespace mor::test {
namespace {

/// inputs: d_q, d_k and d_v beside each other [R,n], projected [R,n], table, bias, q_norm, k_norm, then
/// what the gradients of these three hold before. outputs: d_q, d_k and d_v, beside each other unless they lie apart,
/// then the gradients of those of the three that the form has. The backward runs twice into the same gradients.
Arrays backward_twice(Ops& ops, const Arrays& in, const Form& form) {
  const DType compute = ops.compute_dtype(), master = ops.master_dtype();
  const int64_t rows = in[0].rows, query = form.query_size(), key_value = form.key_value_size(),
                columns = form.weight_rows();
  Buffer beside(ops, compute, rows, columns, "d_q, d_k and d_v", columns + form.wider);
  Buffer q(ops, compute, rows, query, "d_q"), k(ops, compute, rows, key_value, "d_k", key_value + form.wider);
  Buffer v(ops, compute, rows, key_value, "d_v", key_value + form.wider);
  Buffer projected(ops, compute, rows, columns, "projected", columns + form.wider);
  Buffer table(ops, master, kPositions, form.head_dim, "table", form.head_dim + form.wider);
  Vectors weights(ops, form, compute), gradients(ops, form, master);
  Integers position(ops, positions(rows));
  projected.set(in[1]);
  table.set(in[2]);
  const auto set = [&](Vectors& vectors, size_t first) {
    vectors.bias.set(in[first]);
    vectors.q_norm.set(in[first + 1]);
    vectors.k_norm.set(in[first + 2]);
  };
  set(weights, 3);
  set(gradients, 6);
  const auto columns_of = [](const Array& array, int64_t first, int64_t n) {
    Array part(array.rows, n);
    for (int64_t i = 0; i < part.rows; ++i)
      for (int64_t j = 0; j < n; ++j) part(i, j) = array(i, first + j);
    return part;
  };
  const bool apart = form.keys == Form::Keys::apart;
  for (int time = 0; time < 2; ++time) {
    beside.set(in[0]);
    q.set(columns_of(in[0], 0, query));
    k.set(columns_of(in[0], query, key_value));
    v.set(columns_of(in[0], query + key_value, key_value));
    const Tensor all = beside.tensor();
    const auto part = [&](const Buffer& buffer, int64_t first, int64_t n) {
      return (apart ? buffer.tensor() : all.column_range(first, n)).heads(form.head_dim);
    };
    const bool keys = form.keys != Form::Keys::none;
    ops.qkv_backward(part(q, 0, query), keys ? part(k, query, key_value) : Tensor{},
                     keys ? part(v, query + key_value, key_value) : Tensor{},
                     form.extras.norms ? projected.tensor() : Tensor{}, weights.with({}, form), kEpsilon,
                     position.data(), table.tensor(), gradients.with({}, form));
  }
  Arrays out = apart ? Arrays{q.get(), k.get(), v.get()} : Arrays{beside.get()};
  if (form.extras.bias) out.push_back(gradients.bias.get());
  if (form.extras.norms) out.push_back(gradients.q_norm.get());
  if (form.extras.norms && form.keys != Form::Keys::none) out.push_back(gradients.k_norm.get());
  return out;
}

Arrays backward_inputs(const Form& form, int64_t rows) {
  const int64_t n = form.weight_rows(), head_dim = form.head_dim;
  constexpr double kStart = 16;  // as large as the sums, whose rounding errors the tolerance then covers
  return {random_array(rows, n, 11),
          random_array(rows, n, 12),
          angles(head_dim),
          random_array(1, n, 13),
          random_array(1, head_dim, 14),
          random_array(1, head_dim, 15),
          random_array(1, n, 16, kStart),
          random_array(1, head_dim, 17, kStart),
          random_array(1, head_dim, 18, kStart)};
}

const std::vector<bool> kInputsCompute = {true, true, false, true, true, true, false, false, false};

void expect_backward(const Form& form, int64_t rows) {
  SCOPED_TRACE(concat(rows, " rows, ", describe(form)));
  std::vector<bool> outputs_compute(form.keys == Form::Keys::apart ? 3 : 1, true);
  outputs_compute.resize(outputs_compute.size() + 3, false);
  compare_with_reference([&](Ops& ops, const Arrays& in) { return backward_twice(ops, in, form); },
                         backward_inputs(form, rows), kInputsCompute, outputs_compute);
}

/// The gradients of a weighted sum of q, k and v with respect to everything that qkv_forward reads: qkv_backward, and
/// linear's backward behind it.
TEST(QkvBackward, ReferenceGradientIsTheComplexStep) {
  const int64_t rows = 4, d = 3;
  for (const Form::Keys keys : {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::in_slots})
    for (const bool bias : {false, true})
      for (const bool norms : {false, true}) {
        Form form{4, 2, 6, keys, 0, {bias, norms, true}};
        SCOPED_TRACE(describe(form));
        const int64_t n = form.weight_rows(), query = form.query_size(), key_value = form.key_value_size();
        const Arrays in = qkv_inputs(form, rows, d);
        RefOps<double> ops;
        Arrays kept = qkv_forward(form)(ops, in, {}), loss;
        const Array projected = kept.back();
        kept.pop_back();
        for (const Array& output : kept) loss.push_back(random_array(output.rows, output.columns, 20));
        Array d_out = Array(rows, n);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < n; ++j) {
            const bool of_q = j < query, of_k = j < query + key_value;
            const int32_t slot = slots_of(rows)[static_cast<size_t>(i)];
            if (keys != Form::Keys::in_slots || of_q)
              d_out(i, j) = loss[0](i, j);
            else if (slot >= 0)
              d_out(i, j) = of_k ? loss[1](slot, j - query) : loss[2](slot, j - query - key_value);
          }
        Form rows_of_batch = form;
        if (keys == Form::Keys::in_slots) rows_of_batch.keys = Form::Keys::beside_queries;
        const Arrays twice = backward_twice(
            ops, {d_out, projected, in[2], in[5], in[6], in[7], Array(1, n), Array(1, 6), Array(1, 6)}, rows_of_batch);

        Buffer d_product(ops, DType::float64, rows, n, "d_product"), x(ops, DType::float64, rows, d, "x");
        Buffer weight(ops, DType::float64, n, d, "weight"), d_x(ops, DType::float64, rows, d, "d_x");
        Buffer d_weight(ops, DType::float64, n, d, "d_weight");
        d_product.set(twice[0]);
        x.set(in[0]);
        weight.set(in[1]);
        d_weight.set(Array(n, d));
        ops.linear_backward_input(d_product.tensor(), weight.tensor(), d_x.tensor());
        ops.linear_backward_weight(d_product.tensor(), x.tensor(), d_weight.tensor());
        Arrays gradients = {d_x.get(), d_weight.get()};
        std::vector<int64_t> differentiable = {0, 1};
        for (size_t o = 1; o < twice.size(); ++o) gradients.push_back(halved(twice[o]));
        if (bias) differentiable.push_back(5);
        if (norms) differentiable.push_back(6);
        if (norms && keys != Form::Keys::none) differentiable.push_back(7);
        ASSERT_EQ(gradients.size(), differentiable.size());
        form.extras.keeps = false;
        expect_reference_gradient(qkv_forward(form), in, loss, gradients, differentiable);
      }
}

TEST(QkvBackward, MatchesReference) {
  for (const Form& form : small_forms()) {
    if (form.extras.keeps || form.keys == Form::Keys::in_slots) continue;
    for (const int64_t rows : {0, 1, 33}) expect_backward(form, rows);
  }
  for (const Form::Keys keys : {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::apart})
    for (const Extras& extras : {Extras{}, Extras{true, false}, Extras{false, true}, Extras{true, true}}) {
      expect_backward({9, 3, 64, keys, 0, extras}, 70);
      expect_backward({3, 1, 128, keys, 0, extras}, 97);
      expect_backward({5, 1, 30, keys, 0, extras}, 300);
    }
}

TEST(QkvBackward, WithoutBiasAndNormsGivesTheBitsOfRotaryBack) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    for (const int64_t head_dim : {10, 64}) {
      const Form form{3, 2, head_dim, Form::Keys::beside_queries};
      SCOPED_TRACE(concat(subject.name, ", ", describe(form)));
      const int64_t rows = 70, n = form.weight_rows();
      const Arrays in = backward_inputs(form, rows);
      Buffer d(*ops, subject.compute, rows, n, "d"), table(*ops, DType::float32, kPositions, head_dim, "table");
      Integers position(*ops, positions(rows));
      d.set(in[0]);
      table.set(in[2]);
      ops->rotary(d.tensor().column_range(0, n - form.key_value_size()).heads(head_dim), position.data(),
                  table.tensor(), -1);
      EXPECT_EQ(backward_twice(*ops, in, form)[0].values, d.get().values);
    }
  }
}

TEST(QkvBackward, AnyTeamGivesTheSameGradients) {
  const Form form{9, 3, 64, Form::Keys::beside_queries, 0, {true, true}};
  const Arrays in = backward_inputs(form, 300);
  for (const DType compute : {DType::float32, DType::bfloat16}) {
    const Arrays once = backward_twice(*make_ops("cpu", compute, 1), in, form);
    for (const int threads : {2, 3, 7}) {
      const Arrays again = backward_twice(*make_ops("cpu", compute, threads), in, form);
      for (size_t o = 0; o < once.size(); ++o) EXPECT_EQ(again[o].values, once[o].values) << "output " << o;
    }
  }
}

TEST(QkvBackward, WrongShapesAreNamed) {
  struct Extents {
    int64_t q = 16, k = 8, k_rows = 3, projected = 32, d_bias = 32, d_q_norm = 8;
  };
  const auto call = [](const Extents& e) {
    return [=](Ops& ops) {
      const DType compute = ops.compute_dtype(), master = ops.master_dtype();
      Buffer table(ops, master, kPositions, 8, "table"), q(ops, compute, 3, e.q, "d_q");
      Buffer k(ops, compute, e.k_rows, e.k, "d_k"), v(ops, compute, e.k_rows, e.k, "d_v");
      Buffer projected(ops, compute, 3, e.projected, "projected"), bias(ops, compute, 1, 32, "bias");
      Buffer q_norm(ops, compute, 1, 8, "q_norm"), k_norm(ops, compute, 1, 8, "k_norm");
      Buffer d_bias(ops, master, 1, e.d_bias, "d_bias"), d_k_norm(ops, master, 1, 8, "d_k_norm");
      Buffer d_q_norm(ops, master, 1, e.d_q_norm, "d_q_norm");
      Integers position(ops, {0, 0, 0});
      const QkvTensors weights{{}, bias.tensor(), q_norm.tensor(), k_norm.tensor()};
      QkvTensors gradients{{}, d_bias.tensor(), d_q_norm.tensor(), d_k_norm.tensor()};
      if (e.d_bias == 0) gradients.bias = {};
      if (e.d_q_norm == 0) gradients.q_norm = gradients.k_norm = {};
      ops.qkv_backward(q.tensor(), k.tensor(), v.tensor(), e.projected > 0 ? projected.tensor() : Tensor{}, weights,
                       kEpsilon, position.data(), table.tensor(), gradients);
    };
  };
  Extents e;
  e.q = 12;
  expect_invalid(call(e), "qkv_backward: d_q has 12 columns, but whole heads of the table's 8 are needed");
  e = {};
  e.k_rows = 4;
  expect_invalid(call(e), "qkv_backward: d_k is 4 x 8, but 3 x 8 is needed");
  e = {};
  e.projected = 0;
  expect_invalid(call(e), "qkv_backward: projected is empty, but 3 x 32 is needed");
  e = {};
  e.projected = 24;
  expect_invalid(call(e), "qkv_backward: projected is 3 x 24, but 3 x 32 is needed");
  e = {};
  e.d_bias = 24;
  expect_invalid(call(e), "qkv_backward: d_bias has 24 elements, but 32 are needed");
  e = {};
  e.d_bias = 0;
  expect_invalid(call(e), "qkv_backward: bias has 32 elements, but its gradient 0; give both or neither");
  e = {};
  e.d_q_norm = 0;
  expect_invalid(call(e), "qkv_backward: q_norm has 8 elements, but its gradient 0; give both or neither");
}

}  // namespace
}  // namespace mor::test
