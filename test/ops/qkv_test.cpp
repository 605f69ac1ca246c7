// qkv: the reference by its parts, every device by the reference, one rounding, float32 rows alone and in a batch bit
// by bit. Must not know of devices by name.
#include "test/ops/perturb.h"
#include "test/ops/rotary_angles.h"

namespace mor::test {
namespace {

struct Form {
  int64_t heads, key_value_heads, head_dim;
  enum class Keys { none, beside_queries, in_slots } keys;
  int64_t wider = 0;  ///< columns that lie beside every operand's own

  int64_t query_size() const { return heads * head_dim; }
  int64_t key_value_size() const { return keys == Keys::none ? 0 : key_value_heads * head_dim; }
  int64_t weight_rows() const { return query_size() + 2 * key_value_size(); }
};

/// Distinct slots of 2 rows + 1, in falling order, every other one; the third row and every seventh after it has none.
std::vector<int32_t> slots_of(int64_t rows) {
  std::vector<int32_t> slot;
  for (int64_t i = 0; i < rows; ++i) slot.push_back(i % 7 == 2 ? -1 : static_cast<int32_t>(2 * (rows - i) - 1));
  return slot;
}

/// inputs: x [R,d], weight, table, what the slots hold before ([2R+1,kv*hd] twice). outputs: q, k, v, the slots whole.
Forward forward(const Form& form) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const DType compute = ops.compute_dtype();
    const int64_t rows = in[0].rows, d = in[0].columns, query = form.query_size(), key_value = form.key_value_size();
    Buffer x(ops, compute, rows, d, "x", d + form.wider);
    Buffer weight(ops, compute, form.weight_rows(), d, "weight", d + form.wider);
    Buffer table(ops, ops.master_dtype(), kPositions, form.head_dim, "table", form.head_dim + form.wider);
    Integers position(ops, positions(rows)), slot(ops, slots_of(rows));
    fill(x, in[0], 0, step);
    fill(weight, in[1], 1, step);
    table.set(in[2]);
    const auto run = [&](const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* to) {
      const auto heads = [&](const Tensor& tensor) { return tensor ? tensor.heads(form.head_dim) : tensor; };
      ops.qkv_forward(x.tensor(), weight.tensor(), position.data(), table.tensor(), heads(q), heads(k), heads(v), to);
    };
    switch (form.keys) {
      case Form::Keys::none: {
        Buffer q(ops, compute, rows, query, "q", query + form.wider);
        run(q.tensor(), {}, {}, nullptr);
        return {read(q, step)};
      }
      case Form::Keys::beside_queries: {
        Buffer qkv(ops, compute, rows, form.weight_rows(), "qkv", form.weight_rows() + form.wider);
        const Tensor all = qkv.tensor();
        run(all.column_range(0, query), all.column_range(query, key_value),
            all.column_range(query + key_value, key_value), nullptr);
        return {read(qkv, step)};
      }
      case Form::Keys::in_slots: {
        Buffer q(ops, compute, rows, query, "q", query + form.wider);
        Buffer k(ops, compute, 2 * rows + 1, key_value, "k", key_value + form.wider);
        Buffer v(ops, compute, 2 * rows + 1, key_value, "v", key_value + form.wider);
        fill(k, in[3], 3, step);
        fill(v, in[4], 4, step);
        run(q.tensor(), k.tensor(), v.tensor(), slot.data());
        return {read(q, step), read(k, step), read(v, step)};
      }
    }
    return {};
  };
}

Arrays inputs(const Form& form, int64_t rows, int64_t d) {
  return {random_array(rows, d, 1), random_array(form.weight_rows(), d, 2), angles(form.head_dim),
          random_array(2 * rows + 1, form.key_value_size(), 3), random_array(2 * rows + 1, form.key_value_size(), 4)};
}

std::vector<bool> outputs_compute(const Form& form) {
  return std::vector<bool>(form.keys == Form::Keys::in_slots ? 3 : 1, true);
}

void expect_forward(const Form& form, int64_t rows, int64_t d) {
  SCOPED_TRACE(concat(rows, " rows, d ", d, ", heads ", form.heads, " and ", form.key_value_heads, " of ",
                      form.head_dim, ", keys ", static_cast<int>(form.keys), ", wider ", form.wider));
  compare_with_reference(plainly(forward(form)), inputs(form, rows, d), {true, true, false, true, true},
                         outputs_compute(form));
}

/// Small heads of every kind: one pair, an odd number of pairs, pairs that fill no vector.
std::vector<Form> small_forms() {
  std::vector<Form> forms;
  for (const Form::Keys keys : {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::in_slots})
    for (const auto& [heads, key_value_heads, head_dim] :
         {std::tuple<int64_t, int64_t, int64_t>{7, 5, 2}, {3, 1, 6}, {4, 2, 10}, {2, 1, 64}})
      for (const int64_t wider : {0, 3, 8}) forms.push_back({heads, key_value_heads, head_dim, keys, wider});
  return forms;
}

TEST(Qkv, ReferenceIsLinearThenRotaryThenKvWrite) {
  const Form form{4, 2, 6, Form::Keys::in_slots, 0};
  const int64_t rows = 5, d = 7, query = form.query_size(), key_value = form.key_value_size();
  const Arrays in = inputs(form, rows, d);
  RefOps<double> ops;
  const Arrays out = forward(form)(ops, in, {});
  const std::vector<int32_t> position = positions(rows), slot = slots_of(rows);
  const auto projected = [&](int64_t row, int64_t column) {
    double dot = 0;
    for (int64_t l = 0; l < d; ++l) dot += in[0](row, l) * in[1](column, l);
    return dot;
  };
  const auto turned = [&](int64_t row, int64_t first, int64_t column) {
    const int64_t half = form.head_dim / 2, j = column % form.head_dim, pair = j % half;
    const double cosine = in[2](position[static_cast<size_t>(row)], pair);
    const double sine = in[2](position[static_cast<size_t>(row)], half + pair);
    const double own = projected(row, first + column);
    return j < half ? own * cosine - projected(row, first + column + half) * sine
                    : own * cosine + projected(row, first + column - half) * sine;
  };
  Array k = in[3], v = in[4];
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < query; ++j) EXPECT_NEAR(out[0](i, j), turned(i, 0, j), 1e-12);
    for (int64_t j = 0; j < key_value && slot[static_cast<size_t>(i)] >= 0; ++j) {
      k(slot[static_cast<size_t>(i)], j) = turned(i, query, j);
      v(slot[static_cast<size_t>(i)], j) = projected(i, query + key_value + j);
    }
  }
  for (int64_t i = 0; i < k.rows; ++i)
    for (int64_t j = 0; j < key_value; ++j) {
      EXPECT_NEAR(out[1](i, j), k(i, j), 1e-12) << "k, slot " << i;
      EXPECT_NEAR(out[2](i, j), v(i, j), 1e-12) << "v, slot " << i;
    }
}

TEST(Qkv, MatchesReference) {
  for (const Form& form : small_forms())
    for (const int64_t rows : {0, 1, 5, 17}) expect_forward(form, rows, 24);
  for (const Form::Keys keys : {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::in_slots}) {
    expect_forward({9, 3, 64, keys}, 70, 100);
    expect_forward({3, 1, 128, keys}, 33, 64);
    expect_forward({5, 1, 30, keys}, 1, 576);
    expect_forward({4, 4, 48, keys}, 300, 40);
  }
}

/// What the op is made of, called one after another on the same device.
Arrays in_parts(Ops& ops, const Form& form, const Arrays& in) {
  const DType compute = ops.compute_dtype();
  const int64_t rows = in[0].rows, d = in[0].columns, query = form.query_size(), key_value = form.key_value_size();
  Buffer x(ops, compute, rows, d, "x"), weight(ops, compute, form.weight_rows(), d, "weight");
  Buffer table(ops, ops.master_dtype(), kPositions, form.head_dim, "table");
  Buffer qkv(ops, compute, rows, form.weight_rows(), "qkv"), q(ops, compute, rows, query, "q");
  Buffer k(ops, compute, 2 * rows + 1, key_value, "k"), v(ops, compute, 2 * rows + 1, key_value, "v");
  Integers position(ops, positions(rows)), slot(ops, slots_of(rows));
  x.set(in[0]);
  weight.set(in[1]);
  table.set(in[2]);
  k.set(in[3]);
  v.set(in[4]);
  const Tensor all = qkv.tensor();
  ops.linear_forward(x.tensor(), weight.tensor(), {}, all);
  ops.rotary(all.column_range(0, query + key_value).heads(form.head_dim), position.data(), table.tensor(), +1);
  if (form.keys != Form::Keys::in_slots) return {qkv.get()};
  ops.kv_write(all.column_range(0, query), nullptr, q.tensor());
  for (int64_t i = 0; i < rows; ++i) {
    if (slots_of(rows)[static_cast<size_t>(i)] < 0) continue;
    ops.kv_write(all.column_range(query, key_value).slice(i, 1), slot.data() + i, k.tensor());
    ops.kv_write(all.column_range(query + key_value, key_value).slice(i, 1), slot.data() + i, v.tensor());
  }
  return {q.get(), k.get(), v.get()};
}

TEST(Qkv, GivesTheBitsOfLinearRotaryAndKvWrite) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    for (const Form::Keys keys : {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::in_slots})
      for (const auto& [rows, head_dim] : {std::pair<int64_t, int64_t>{1, 64}, {7, 10}, {70, 64}, {300, 48}}) {
        SCOPED_TRACE(concat(subject.name, ", ", rows, " rows, heads of ", head_dim, ", keys ", static_cast<int>(keys)));
        const Form form{3, 1, head_dim, keys, 0};
        const Arrays in = inputs(form, rows, 72);
        const Arrays expected = in_parts(*ops, form, in), actual = forward(form)(*ops, in, {});
        for (size_t o = 0; o < expected.size(); ++o) ASSERT_EQ(actual[o].values, expected[o].values) << "output " << o;
      }
  }
}

TEST(Qkv, Float32RowDoesNotDependOnItsNeighbours) {
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (const int64_t head_dim : {10, 64}) {
      const Form form{3, 1, head_dim, Form::Keys::beside_queries, 0};
      const Arrays in = inputs(form, 37, 100);
      const Array together = forward(form)(*ops, in, {})[0];
      for (int64_t row = 0; row < 37; ++row) {
        if (positions(37)[static_cast<size_t>(row)] != positions(1)[0]) continue;  // a lone row stands there
        Arrays alone = in;
        alone[0] = Array(1, 100);
        for (int64_t j = 0; j < 100; ++j) alone[0](0, j) = in[0](row, j);
        const Array y = forward(form)(*ops, alone, {})[0];
        for (int64_t j = 0; j < y.columns; ++j) ASSERT_EQ(y(0, j), together(row, j)) << "row " << row << ", " << j;
      }
    }
  }
}

TEST(Qkv, WrongShapesAreNamed) {
  struct Extents {
    int64_t weight_rows = 32, d = 8, q = 16, k = 8, v = 8, slots = 4, table = 8;
    bool slot = true;
  };
  const auto call = [](const Extents& e) {
    return [=](Ops& ops) {
      const DType compute = ops.compute_dtype();
      Buffer x(ops, compute, 3, 8, "x"), weight(ops, compute, e.weight_rows, e.d, "weight");
      Buffer table(ops, ops.master_dtype(), kPositions, e.table, "table"), q(ops, compute, 3, e.q, "q");
      Buffer k(ops, compute, e.slots, e.k, "k"), v(ops, compute, e.slots, e.v, "v");
      Integers position(ops, {0, 0, 0}), slot(ops, {0, 1, 3});
      ops.qkv_forward(x.tensor(), weight.tensor(), position.data(), table.tensor(), q.tensor(), k.tensor(), v.tensor(),
                      e.slot ? slot.data() : nullptr);
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
}

}  // namespace
}  // namespace mor::test
