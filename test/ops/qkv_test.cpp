// Tests of qkv_forward: the reference against a plain computation of its steps, every device against the reference, and
// bit for bit against linear_forward, rotary and kv_write; float32 rows alone against the same rows in a batch.
#include "test/ops/qkv_forms.h"

namespace mor::test {
namespace {

std::vector<bool> outputs_compute(const Form& form) {
  const bool apart = form.keys == Form::Keys::apart || form.keys == Form::Keys::in_slots;
  return std::vector<bool>((apart ? 3 : 1) + form.extras.keeps, true);
}

void expect_forward(const Form& form, int64_t rows, int64_t d) {
  SCOPED_TRACE(concat(rows, " rows, d ", d, ", ", describe(form)));
  compare_with_reference(plainly(qkv_forward(form)), qkv_inputs(form, rows, d),
                         {true, true, false, true, true, true, true, true}, outputs_compute(form));
}

void expect_reference_in_parts(const Form& form) {
  SCOPED_TRACE(describe(form));
  const int64_t rows = 5, d = 7, query = form.query_size(), key_value = form.key_value_size();
  const Arrays in = qkv_inputs(form, rows, d);
  RefOps<double> ops;
  const Arrays out = qkv_forward(form)(ops, in, {});
  const std::vector<int32_t> position = positions(rows), slot = slots_of(rows);
  const auto projected = [&](int64_t row, int64_t column) {
    double dot = form.extras.bias ? in[5](0, column) : 0;
    for (int64_t l = 0; l < d; ++l) dot += in[0](row, l) * in[1](column, l);
    return dot;
  };
  const auto normed = [&](int64_t row, int64_t column, const Array& norm) {
    if (!form.extras.norms) return projected(row, column);
    const int64_t head = column / form.head_dim * form.head_dim;
    double squares = 0;
    for (int64_t j = 0; j < form.head_dim; ++j) squares += std::pow(projected(row, head + j), 2);
    return projected(row, column) * norm(0, column - head) /
           std::sqrt(squares / static_cast<double>(form.head_dim) + kEpsilon);
  };
  const auto rotated = [&](int64_t row, int64_t first, int64_t column, const Array& norm) {
    const int64_t half = form.head_dim / 2, j = column % form.head_dim, pair = j % half;
    const double cosine = in[2](position[static_cast<size_t>(row)], pair);
    const double sine = in[2](position[static_cast<size_t>(row)], half + pair);
    const double own = normed(row, first + column, norm);
    return j < half ? own * cosine - normed(row, first + column + half, norm) * sine
                    : own * cosine + normed(row, first + column - half, norm) * sine;
  };
  Array k = in[3], v = in[4];
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < query; ++j) EXPECT_NEAR(out[0](i, j), rotated(i, 0, j, in[6]), 1e-12);
    for (int64_t j = 0; j < key_value && slot[static_cast<size_t>(i)] >= 0; ++j) {
      k(slot[static_cast<size_t>(i)], j) = rotated(i, query, j, in[7]);
      v(slot[static_cast<size_t>(i)], j) = projected(i, query + key_value + j);
    }
  }
  for (int64_t i = 0; i < k.rows; ++i)
    for (int64_t j = 0; j < key_value; ++j) {
      EXPECT_NEAR(out[1](i, j), k(i, j), 1e-12) << "k, slot " << i;
      EXPECT_NEAR(out[2](i, j), v(i, j), 1e-12) << "v, slot " << i;
    }
  for (int64_t i = 0; i < rows && form.extras.keeps; ++i)
    for (int64_t j = 0; j < form.weight_rows(); ++j) EXPECT_NEAR(out[3](i, j), projected(i, j), 1e-12);
}

TEST(Qkv, ReferenceIsProjectionNormRotaryThenKvWrite) {
  for (const Extras& extras : kExtras) expect_reference_in_parts({4, 2, 6, Form::Keys::in_slots, 0, extras});
}

TEST(Qkv, MatchesReference) {
  for (const Form& form : small_forms()) {
    const bool plain = !form.extras.bias && !form.extras.norms && !form.extras.keeps;
    for (const int64_t rows : plain ? std::vector<int64_t>{0, 1, 5, 17} : std::vector<int64_t>{0, 1, 17})
      expect_forward(form, rows, 24);
  }
  for (const Form::Keys keys : kKeys)
    for (const Extras& extras : {Extras{}, Extras{true, true}}) {
      expect_forward({9, 3, 64, keys, 0, extras}, 70, 100);
      expect_forward({3, 1, 128, keys, 0, extras}, 33, 64);
      expect_forward({5, 1, 30, keys, 0, extras}, 1, 576);
      expect_forward({4, 4, 48, keys, 0, extras}, 300, 40);
    }
}

/// A forward that keeps nothing must agree with its recomputation, which keeps the columns for the backward.
TEST(Qkv, KeepingTheColumnsChangesNoBit) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    for (const Form::Keys keys : kKeys)
      for (const bool bias : {false, true})
        for (const bool norms : {false, true})
          for (const auto& [rows, head_dim] : {std::pair<int64_t, int64_t>{1, 10}, {3, 64}, {70, 64}}) {
            Form form{3, 1, head_dim, keys, 0, {bias, norms, true}};
            SCOPED_TRACE(concat(subject.name, ", ", rows, " rows, ", describe(form)));
            const Arrays in = qkv_inputs(form, rows, 72), kept = qkv_forward(form)(*ops, in, {});
            form.extras.keeps = false;
            const Arrays actual = qkv_forward(form)(*ops, in, {});
            for (size_t o = 0; o < actual.size(); ++o) ASSERT_EQ(actual[o].values, kept[o].values) << "output " << o;
          }
  }
}

TEST(Qkv, QueriesOnlyAreTheRowsOfQ) {
  float memory[8];
  const Tensor weight = make_tensor(memory, DType::float32, 32, 5, "weight");
  const QkvTensors plain = QkvTensors{weight}.queries_only(12);
  EXPECT_EQ(plain.weight.data, memory);
  EXPECT_EQ(plain.weight.rows(), 12);
  EXPECT_FALSE(plain.bias);
  const Tensor bias = make_vector(memory + 1, DType::float32, 32, "bias");
  const Tensor norm = make_vector(memory + 2, DType::float32, 4, "norm");
  const QkvTensors all = QkvTensors{weight, bias, norm, norm}.queries_only(12);
  EXPECT_EQ(all.bias.data, bias.data);
  EXPECT_EQ(all.bias.count(), 12);
  EXPECT_EQ(all.q_norm.data, norm.data);
  EXPECT_EQ(all.k_norm.count(), 4);
}

/// The same by linear_forward, rotary and kv_write, one after another on one device.
Arrays in_parts(Ops& ops, const Form& form, const Arrays& in) {
  const DType compute = ops.compute_dtype();
  const int64_t rows = in[0].rows, d = in[0].columns, query = form.query_size(), key_value = form.key_value_size();
  Buffer x(ops, compute, rows, d, "x"), weight(ops, compute, form.weight_rows(), d, "weight");
  Buffer table(ops, ops.master_dtype(), kPositions, form.head_dim, "table");
  Buffer qkv(ops, compute, rows, form.weight_rows(), "qkv"), q(ops, compute, rows, query, "q");
  Buffer k(ops, compute, 2 * rows + 1, key_value, "k"), v(ops, compute, 2 * rows + 1, key_value, "v");
  const bool in_slots = form.keys == Form::Keys::in_slots;
  std::vector<int32_t> to = slots_of(rows);
  for (int32_t i = 0; i < rows && !in_slots; ++i) to[static_cast<size_t>(i)] = i;
  Integers position(ops, positions(rows)), slot(ops, to);
  x.set(in[0]);
  weight.set(in[1]);
  table.set(in[2]);
  k.set(in[3]);
  v.set(in[4]);
  const Tensor all = qkv.tensor();
  ops.linear_forward(x.tensor(), weight.tensor(), {}, all);
  ops.rotary(all.column_range(0, query + key_value).heads(form.head_dim), position.data(), table.tensor(), +1);
  if (!in_slots && form.keys != Form::Keys::apart) return {qkv.get()};
  ops.kv_write(all.column_range(0, query), nullptr, q.tensor());
  for (int64_t i = 0; i < rows; ++i) {
    if (to[static_cast<size_t>(i)] < 0) continue;
    ops.kv_write(all.column_range(query, key_value).slice(i, 1), slot.data() + i, k.tensor());
    ops.kv_write(all.column_range(query + key_value, key_value).slice(i, 1), slot.data() + i, v.tensor());
  }
  return {q.get(), k.get(), v.get()};
}

TEST(Qkv, GivesTheBitsOfLinearRotaryAndKvWrite) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    for (const Form::Keys keys : kKeys)
      for (const auto& [rows, head_dim] : {std::pair<int64_t, int64_t>{1, 64}, {7, 10}, {70, 64}, {300, 48}}) {
        SCOPED_TRACE(concat(subject.name, ", ", rows, " rows, heads of ", head_dim, ", keys ", static_cast<int>(keys)));
        const Form form{3, 1, head_dim, keys, 0};
        const Arrays in = qkv_inputs(form, rows, 72);
        const Arrays expected = in_parts(*ops, form, in), actual = qkv_forward(form)(*ops, in, {});
        for (size_t o = 0; o < expected.size(); ++o) ASSERT_EQ(actual[o].values, expected[o].values) << "output " << o;
      }
  }
}

TEST(Qkv, Float32RowDoesNotDependOnItsNeighbours) {
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (const int64_t head_dim : {10, 64})
      for (const Extras& extras : {Extras{}, Extras{true, true}}) {
        const Form form{3, 1, head_dim, Form::Keys::beside_queries, 0, extras};
        const Arrays in = qkv_inputs(form, 37, 100);
        const Array together = qkv_forward(form)(*ops, in, {})[0];
        for (int64_t row = 0; row < 37; ++row) {
          if (positions(37)[static_cast<size_t>(row)] != positions(1)[0]) continue;  // that of a batch of one row
          Arrays alone = in;
          alone[0] = Array(1, 100);
          for (int64_t j = 0; j < 100; ++j) alone[0](0, j) = in[0](row, j);
          const Array y = qkv_forward(form)(*ops, alone, {})[0];
          for (int64_t j = 0; j < y.columns; ++j) ASSERT_EQ(y(0, j), together(row, j)) << "row " << row << ", " << j;
        }
      }
  }
}

TEST(Qkv, WrongShapesAreNamed) {
  struct Extents {
    int64_t weight_rows = 32, d = 8, q = 16, k = 8, v = 8, slots = 4, table = 8;
    int64_t bias = 32, q_norm = 8, k_norm = 8, projected = 32;
    bool slot = true;
  };
  const auto call = [](const Extents& e) {
    return [=](Ops& ops) {
      const DType compute = ops.compute_dtype();
      Buffer x(ops, compute, 3, 8, "x"), weight(ops, compute, e.weight_rows, e.d, "weight");
      Buffer table(ops, ops.master_dtype(), kPositions, e.table, "table"), q(ops, compute, 3, e.q, "q");
      Buffer k(ops, compute, e.slots, e.k, "k"), v(ops, compute, e.slots, e.v, "v");
      Integers position(ops, {0, 0, 0}), slot(ops, {0, 1, 3});
      Buffer bias(ops, compute, 1, e.bias, "bias"), projected(ops, compute, 3, e.projected, "projected");
      Buffer q_norm(ops, compute, 1, e.q_norm, "q_norm"), k_norm(ops, compute, 1, e.k_norm, "k_norm");
      ops.qkv_forward(x.tensor(),
                      {weight.tensor(), bias.tensor(), q_norm.tensor(), e.k_norm > 0 ? k_norm.tensor() : Tensor{}},
                      kEpsilon, position.data(), table.tensor(), q.tensor(), k.tensor(), v.tensor(),
                      e.slot ? slot.data() : nullptr, projected.tensor());
    };
  };
  Extents e;
  e.weight_rows = 24;
  expect_invalid(call(e), "qkv_forward: weight is 24 x 8, but 32 x 8 is needed");
  e = {};
  e.d = 7;
  expect_invalid(call(e), "qkv_forward: x is 3 x 8, but 3 x 7 is needed");
  e = {};
  e.v = 16;
  expect_invalid(call(e), "qkv_forward: k is 4 x 8, but 4 x 16 is needed");
  e = {};
  e.q = 12;
  expect_invalid(call(e), "qkv_forward: q has 12 columns, but whole heads of the table's 8 are needed");
  e = {};
  e.table = 7;
  expect_invalid(call(e), "qkv_forward: table has 7 columns, but heads of an even number are needed");
  e = {};
  e.slots = 2;
  e.slot = false;
  expect_invalid(call(e), "qkv_forward: k has 2 rows, but without slots 3 are needed");
  e = {};
  e.bias = 16;
  expect_invalid(call(e), "qkv_forward: bias has 16 elements, but 32 are needed");
  e = {};
  e.q_norm = 16;
  expect_invalid(call(e), "qkv_forward: q_norm has 16 elements, but 8 are needed");
  e = {};
  e.k_norm = 0;
  expect_invalid(call(e), "qkv_forward: q_norm has 8 elements, but k_norm 0; give both or neither");
  e = {};
  e.projected = 16;
  expect_invalid(call(e), "qkv_forward: projected is 3 x 16, but 3 x 32 is needed");
}

}  // namespace
}  // namespace mor::test
