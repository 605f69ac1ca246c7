// Tests of attention: the reference against the complex step, every device against the reference, and what ops.h
// promises: the same bits alone and in a batch, from one run of keys and from blocks, with any number of threads.
#include "ops/checks/attention.h"

#include <limits>

#include "test/error_message.h"
#include "test/ops/harness.h"

namespace mor::test {
namespace {

/// The geometry of one call, on the host.
struct Geometry {
  int64_t heads = 1, key_heads = 1, head_dim = 8, slots = 0;
  int64_t gap =
      1;  ///< rows lie a multiple of so many elements apart; with 8 every row begins at a multiple of 16 bytes
  std::vector<int32_t> start = {0}, visible, key_start;
  int32_t block_size = 0, blocks_per_list = 0;
  std::vector<int32_t> block_table;

  int64_t rows() const { return static_cast<int64_t>(visible.size()); }
  std::string describe() const {
    return concat(heads, " heads, ", key_heads, " key heads of ", head_dim, ", ", rows(), " rows, gap ", gap);
  }
  /// Adds a sequence: row i sees the first sees[i] of its `keys` keys, which begin `gap` slots after the sequence
  /// before.
  void add(const std::vector<int32_t>& sees, int32_t keys, int32_t gap = 1) {
    visible.insert(visible.end(), sees.begin(), sees.end());
    start.push_back(static_cast<int32_t>(visible.size()));
    key_start.push_back(static_cast<int32_t>(slots) + gap);
    slots += gap + keys;
  }
};

std::vector<int32_t> counting(int32_t first, int32_t n, int32_t step = 1) {
  std::vector<int32_t> list;
  for (int32_t i = 0; i < n; ++i) list.push_back(first + i * step);
  return list;
}

/// A geometry in device memory.
class DeviceRows {
 public:
  DeviceRows(Ops& ops, const Geometry& g)
      : start_(ops, g.start), visible_(ops, g.visible), key_start_(ops, g.key_start), table_(ops, g.block_table) {
    rows_.count = static_cast<int32_t>(g.rows());
    rows_.key_lists = static_cast<int32_t>(g.start.size()) - 1;
    for (int32_t s = 0; s < rows_.key_lists; ++s)
      rows_.max_rows = std::max(rows_.max_rows, g.start[s + 1] - g.start[s]);
    for (int32_t v : g.visible) rows_.max_keys = std::max(rows_.max_keys, v);
    rows_.start = start_.data();
    rows_.visible = visible_.data();
    rows_.block_size = g.block_size;
    if (g.block_size == 0) {
      rows_.key_start = key_start_.data();
    } else {
      rows_.block_table = table_.data();
      rows_.blocks_per_list = g.blocks_per_list;
    }
  }
  const Rows& get() const { return rows_; }

 private:
  Integers start_, visible_, key_start_, table_;
  Rows rows_;
};

/// Replaces -infinity by a number, so that outputs can be compared by subtraction.
Array finite(Array a) {
  for (double& x : a.values)
    if (x == -std::numeric_limits<double>::infinity()) x = -1;
  return a;
}

/// inputs: q [R, h hd], k and v [slots, kv hd]. outputs: out, lse. Between the rows of a buffer lies poison.
Arrays forward(Ops& ops, const Arrays& in, const Geometry& g, bool with_lse = true) {
  const DType dtype = ops.compute_dtype();
  const int64_t q_columns = g.heads * g.head_dim, k_columns = g.key_heads * g.head_dim;
  Buffer q(ops, dtype, g.rows(), q_columns, "q", q_columns + 5 * g.gap),
      k(ops, dtype, g.slots, k_columns, "k", k_columns + 3 * g.gap);
  Buffer v(ops, dtype, g.slots, k_columns, "v", k_columns + 9 * g.gap), out(ops, dtype, g.rows(), q_columns, "out");
  Buffer lse(ops, ops.master_dtype(), g.rows(), g.heads, "lse");
  q.set(in[0]);
  k.set(in[1]);
  v.set(in[2]);
  const DeviceRows rows(ops, g);
  ops.attention_forward(q.tensor().heads(g.head_dim), k.tensor().heads(g.head_dim), v.tensor().heads(g.head_dim),
                        rows.get(), out.tensor().heads(g.head_dim), with_lse ? lse.tensor() : Tensor{});
  if (!with_lse) return {out.get()};
  return {out.get(), finite(lse.get())};
}

/// inputs: d_out, q, k, v, start values of d_k and d_v. The backward runs twice into the same buffers.
Arrays backward_twice(Ops& ops, const Arrays& in, const Geometry& g) {
  const DType dtype = ops.compute_dtype();
  const int64_t q_columns = g.heads * g.head_dim, k_columns = g.key_heads * g.head_dim;
  const auto heads = [&](const Buffer& b) { return b.tensor().heads(g.head_dim); };
  Buffer d_out(ops, dtype, g.rows(), q_columns, "d_out"), out(ops, dtype, g.rows(), q_columns, "out");
  Buffer q(ops, dtype, g.rows(), q_columns, "q", q_columns + 5 * g.gap),
      k(ops, dtype, g.slots, k_columns, "k", k_columns + 3 * g.gap);
  Buffer v(ops, dtype, g.slots, k_columns, "v", k_columns + 9 * g.gap),
      lse(ops, ops.master_dtype(), g.rows(), g.heads, "lse");
  Buffer d_q(ops, dtype, g.rows(), q_columns, "d_q", q_columns + 5 * g.gap);
  Buffer d_k(ops, dtype, g.slots, k_columns, "d_k", k_columns + g.gap);
  Buffer d_v(ops, dtype, g.slots, k_columns, "d_v", k_columns + 7 * g.gap);
  d_out.set(in[0]);
  q.set(in[1]);
  k.set(in[2]);
  v.set(in[3]);
  d_k.set(in[4]);
  d_v.set(in[5]);
  const DeviceRows rows(ops, g);
  ops.attention_forward(heads(q), heads(k), heads(v), rows.get(), heads(out), lse.tensor());
  for (int time = 0; time < 2; ++time)
    ops.attention_backward(heads(d_out), heads(q), heads(k), heads(v), heads(out), lse.tensor(), rows.get(), heads(d_q),
                           heads(d_k), heads(d_v));
  return {d_q.get(), d_k.get(), d_v.get()};
}

/// q, k, v. Slots that no row sees hold NaN.
Arrays forward_inputs(const Geometry& g, uint32_t seed) {
  Arrays in = {random_array(g.rows(), g.heads * g.head_dim, seed),
               random_array(g.slots, g.key_heads * g.head_dim, seed + 1),
               random_array(g.slots, g.key_heads * g.head_dim, seed + 2)};
  std::vector<bool> seen(static_cast<size_t>(g.slots));
  for (size_t s = 0; s + 1 < g.start.size(); ++s)
    for (int32_t i = g.start[s]; i < g.start[s + 1]; ++i)
      for (int32_t j = 0; j < g.visible[i]; ++j)
        seen[g.block_size == 0
                 ? g.key_start[s] + j
                 : g.block_table[s * g.blocks_per_list + j / g.block_size] * g.block_size + j % g.block_size] = true;
  for (int64_t slot = 0; slot < g.slots; ++slot)
    for (int64_t c = 0; c < in[1].columns && !seen[slot]; ++c)
      in[1](slot, c) = in[2](slot, c) = std::numeric_limits<double>::quiet_NaN();
  return in;
}

Arrays backward_inputs(const Geometry& g, uint32_t seed) {
  Arrays in = forward_inputs(g, seed);
  in.insert(in.begin(), random_array(g.rows(), g.heads * g.head_dim, seed + 3));
  in.push_back(random_array(g.slots, g.key_heads * g.head_dim, seed + 4));
  in.push_back(random_array(g.slots, g.key_heads * g.head_dim, seed + 5));
  return in;
}

/// Short and long sequences, a sequence without rows, also as the first one, rows that see no key, rows that see
/// equally many keys, more keys than rows, and lengths around the multiples of 16, 32, 64 and 128, which are the sizes
/// of kernels' blocks.
std::vector<Geometry> geometries() {
  std::vector<Geometry> list;
  const auto with_heads = [&](int64_t heads, int64_t key_heads, int64_t head_dim) -> Geometry& {
    list.emplace_back();
    list.back().heads = heads;
    list.back().key_heads = key_heads;
    list.back().head_dim = head_dim;
    return list.back();
  };
  with_heads(2, 1, 8);
  with_heads(1, 1, 1).add({1}, 1, 0);
  Geometry& small = with_heads(4, 2, 16);
  small.add({0, 1, 1, 4, 7}, 9);
  small.add({}, 3);
  small.add({5}, 5);
  small.add({0, 0}, 0);
  Geometry& late = with_heads(2, 2, 32);
  late.add({}, 3);
  late.add(counting(1, 20), 20);
  for (const auto& [heads, key_heads, head_dim] :
       {std::tuple{3, 1, 64}, std::tuple{2, 2, 32}, std::tuple{2, 1, 128}, std::tuple{4, 2, 20}}) {
    Geometry& g = with_heads(heads, key_heads, head_dim);
    g.add(counting(1, 31), 31);
    g.add(counting(1, 129), 129, 0);
    g.add({0, 0, 0, 0, 1, 1, 1, 1, 33, 64}, 70);
    g.add({100}, 100);
    g.add(counting(4, 40, 5), 230);
  }
  Geometry& lengthy = with_heads(2, 1, 64);
  lengthy.add(counting(1, 300), 300);
  lengthy.add(counting(601, 9), 609);
  lengthy.add({1100}, 1100);
  return list;
}

/// The geometries with rows at any address, or with rows at multiples of 16 bytes, which kernels load differently.
class AttentionOfRows : public testing::TestWithParam<int64_t> {
 public:
  static std::vector<Geometry> with_gap() {
    std::vector<Geometry> list = geometries();
    for (Geometry& g : list) g.gap = GetParam();
    return list;
  }
};
INSTANTIATE_TEST_SUITE_P(AtAnyAddress, AttentionOfRows, testing::Values(1));
INSTANTIATE_TEST_SUITE_P(At16Bytes, AttentionOfRows, testing::Values(8));

TEST(Attention, ReferenceGradientIsTheComplexStep) {
  Geometry g;
  g.heads = 4;
  g.key_heads = 2;
  g.head_dim = 3;
  g.add({0, 1, 3}, 3);
  g.add({2, 4}, 4, 0);
  const Arrays in = {random_array(g.rows(), 12, 1), random_array(g.slots, 6, 2), random_array(g.slots, 6, 3)};
  const Array loss = random_array(g.rows(), 12, 4);
  RefOps<double> ops;
  Arrays gradients = backward_twice(ops, {loss, in[0], in[1], in[2], Array(g.slots, 6), Array(g.slots, 6)}, g);
  for (size_t i : {1, 2})
    for (double& value : gradients[i].values) value /= 2;  // d_k and d_v are the sums of two runs, d_q is that of one
  const PerturbedForward perturbed = [&](RefOps<Complex>& c, const Arrays& inputs, const Step& step) -> Arrays {
    Buffer q(c, DType::complex128, g.rows(), 12, "q"), k(c, DType::complex128, g.slots, 6, "k");
    Buffer v(c, DType::complex128, g.slots, 6, "v"), out(c, DType::complex128, g.rows(), 12, "out");
    q.set(inputs[0]);
    k.set(inputs[1]);
    v.set(inputs[2]);
    (step.input == 0 ? q : step.input == 1 ? k : v).add_imaginary(step.i, step.j, step.h);
    const DeviceRows rows(c, g);
    c.attention_forward(q.tensor().heads(3), k.tensor().heads(3), v.tensor().heads(3), rows.get(),
                        out.tensor().heads(3), {});
    return {out.get_imaginary()};
  };
  expect_complex_step_gradient(perturbed, in, {loss}, gradients, {0, 1, 2});
}

TEST_P(AttentionOfRows, ForwardMatchesReference) {
  for (const Geometry& g : with_gap()) {
    SCOPED_TRACE(g.describe());
    compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, g); }, forward_inputs(g, 10),
                           {true, true, true}, {true, false});
  }
}

TEST_P(AttentionOfRows, BackwardAccumulatesAndMatchesReference) {
  for (const Geometry& g : with_gap()) {
    SCOPED_TRACE(g.describe());
    compare_with_reference([&](Ops& ops, const Arrays& in) { return backward_twice(ops, in, g); },
                           backward_inputs(g, 30), {true, true, true, true, true, true}, {true, true, true});
  }
}

/// Scores grow along the keys, so the running maximum rises late and by much; nothing may overflow.
TEST(Attention, LargeScoresMatchReference) {
  Geometry g;
  g.heads = 2;
  g.head_dim = 64;
  g.add(counting(1, 200), 200);
  Arrays in = forward_inputs(g, 40);
  for (int64_t j = 0; j < g.slots; ++j)
    for (int64_t c = 0; c < 64; ++c) in[1](j, c) *= static_cast<double>(j) / 20;
  compare_with_reference([&](Ops& ops, const Arrays& inputs) { return forward(ops, inputs, g); }, in,
                         {true, true, true}, {true, false});
}

/// Rows begin .. end of `g`, which belong to sequence s, as a batch of their own over the same keys.
Geometry only_rows(const Geometry& g, size_t s, int32_t begin, int32_t end) {
  Geometry alone = g;
  alone.start = {0, end - begin};
  alone.visible.assign(g.visible.begin() + begin, g.visible.begin() + end);
  alone.key_start = {g.key_start[s]};
  return alone;
}

Array only_rows(const Array& a, int64_t begin, int64_t end) {
  Array some(end - begin, a.columns);
  std::copy(a.values.begin() + begin * a.columns, a.values.begin() + end * a.columns, some.values.begin());
  return some;
}

/// Equal bit for bit, and without a NaN.
void expect_same(const Array& a, const Array& b, const std::string& what) {
  ASSERT_EQ(a.values.size(), b.values.size()) << what;
  for (size_t i = 0; i < a.values.size(); ++i) ASSERT_EQ(a.values[i], b.values[i]) << what << " at element " << i;
}

TEST(Attention, Float32RowsDoNotDependOnTheirNeighbours) {
  for (const Geometry& g : geometries())
    for (const Subject& subject : subjects()) {
      if (subject.compute != DType::float32) continue;
      SCOPED_TRACE(subject.name);
      const std::unique_ptr<Ops> ops = subject.make();
      const Arrays in = forward_inputs(g, 50), batch = forward(*ops, in, g);
      for (size_t s = 0; s + 1 < g.start.size(); ++s)
        for (int32_t i = g.start[s]; i < g.start[s + 1]; i += 17) {
          const Arrays alone = forward(*ops, {only_rows(in[0], i, i + 1), in[1], in[2]}, only_rows(g, s, i, i + 1));
          for (size_t o = 0; o < 2; ++o)
            expect_same(alone[o], only_rows(batch[o], i, i + 1), concat("output ", o, " of row ", i));
        }
    }
}

/// A key that a row does not see may be NaN without any effect on it; rows that see the key become NaN.
TEST(Attention, Float32UnseenKeysAreNotTouched) {
  Geometry g;
  g.heads = g.key_heads = 2;
  g.head_dim = 32;
  g.add(counting(1, 70), 70, 0);
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Arrays in = forward_inputs(g, 60);
    const Arrays clean = forward(*ops, in, g);
    for (int64_t c = 0; c < in[1].columns; ++c) in[1](41, c) = in[2](41, c) = std::numeric_limits<double>::quiet_NaN();
    const Arrays spoilt = forward(*ops, in, g);
    for (size_t o = 0; o < 2; ++o)
      expect_same(only_rows(spoilt[o], 0, 41), only_rows(clean[o], 0, 41), concat("output ", o));
    for (int64_t i = 41; i < 70; ++i) EXPECT_TRUE(std::isnan(spoilt[0](i, 0))) << "row " << i;
  }
}

/// In decoding a row gives the same bits alone and beside any other rows, and a key that it does not see may be NaN.
/// This holds in bfloat16 too, as long as a sequence has few rows: many rows take another kernel.
TEST(Attention, FewBfloat16RowsOnTheCpuStandAlone) {
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::bfloat16 || subject.name.rfind("cpu", 0) != 0) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (int32_t head_dim : {40, 64, 96, 128})
      for (int32_t group : {1, 3, 5}) {
        SCOPED_TRACE(concat(group, " heads a key head of ", head_dim));
        Geometry g;
        g.key_heads = 2;
        g.heads = 2 * group;
        g.head_dim = head_dim;
        g.add({1}, 1);
        g.add({66, 67, 68, 69, 70}, 70);
        g.add({600}, 600);
        g.add({127, 129}, 129);
        g.add({0, 3}, 3);
        Arrays in = forward_inputs(g, 70);
        const int64_t unseen = g.key_start[1] + 68;  // only the last two rows of the sequence see it
        for (int64_t c = 0; c < in[1].columns; ++c)
          in[1](unseen, c) = in[2](unseen, c) = std::numeric_limits<double>::quiet_NaN();
        const Arrays batch = forward(*ops, in, g);
        for (size_t s = 0; s + 1 < g.start.size(); ++s)
          for (int32_t i = g.start[s]; i < g.start[s + 1]; ++i) {
            const Arrays alone = forward(*ops, {only_rows(in[0], i, i + 1), in[1], in[2]}, only_rows(g, s, i, i + 1));
            if (s == 1 && g.visible[i] > 68) {
              EXPECT_TRUE(std::isnan(alone[0](0, 0))) << "row " << i;
              continue;
            }
            for (size_t o = 0; o < 2; ++o)
              expect_same(alone[o], only_rows(batch[o], i, i + 1), concat("output ", o, " of row ", i));
          }
      }
  }
}

TEST(Attention, BlocksGiveWhatOneRunGives) {
  for (int32_t block_size : {1, 16, 24}) {
    Geometry run;
    run.heads = 6;
    run.key_heads = 2;
    run.head_dim = 64;
    run.gap = block_size == 16 ? 8 : 1;
    run.add(counting(3, 40), 42);
    run.add({77}, 77);
    run.add({0, 5}, 5);
    run.add({1300}, 1300);
    // The same keys in blocks, which lie in falling order.
    Geometry blocks = run;
    blocks.block_size = block_size;
    blocks.blocks_per_list = (1300 + block_size - 1) / block_size;
    const int32_t count = blocks.blocks_per_list * 4;
    blocks.slots = int64_t{count} * block_size;
    blocks.block_table.resize(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; ++i) blocks.block_table[static_cast<size_t>(i)] = count - 1 - i;
    const Arrays in = forward_inputs(run, 70);
    Arrays paged = {in[0], Array(blocks.slots, 128, std::nan("")), Array(blocks.slots, 128, std::nan(""))};
    const int32_t keys[] = {42, 77, 5, 1300};
    for (int32_t s = 0; s < 4; ++s)
      for (int32_t j = 0; j < keys[s]; ++j)
        for (int64_t c = 0; c < 128; ++c)
          for (size_t i : {1, 2})
            paged[i](int64_t{count - 1 - s * blocks.blocks_per_list - j / block_size} * block_size + j % block_size,
                     c) = in[i](run.key_start[static_cast<size_t>(s)] + j, c);
    for (const Subject& subject : subjects()) {
      SCOPED_TRACE(subject.name);
      const std::unique_ptr<Ops> ops = subject.make();
      const Arrays one = forward(*ops, in, run), other = forward(*ops, paged, blocks);
      for (size_t o = 0; o < 2; ++o) expect_same(one[o], other[o], concat("output ", o));
    }
  }
}

TEST(Attention, LseMayBeLeftOut) {
  Geometry g;
  g.heads = 2;
  g.head_dim = 32;
  g.add(counting(0, 20), 19);
  g.add({600}, 600);
  const Arrays in = forward_inputs(g, 90);
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    expect_same(forward(*ops, in, g, false)[0], forward(*ops, in, g)[0], "out");
  }
}

TEST(Attention, AnyTeamGivesTheSameBits) {
  Geometry g;
  g.heads = 3;
  g.key_heads = 1;
  g.head_dim = 64;
  g.add(counting(1, 500), 500);
  g.add({2000}, 2000);
  const Arrays in = backward_inputs(g, 80);
  for (DType dtype : {DType::float32, DType::bfloat16}) {
    SCOPED_TRACE(dtype_name(dtype));
    const std::unique_ptr<Ops> one = make_ops("cpu", dtype, 1);
    const Arrays forward_one = forward(*one, {in[1], in[2], in[3]}, g), backward_one = backward_twice(*one, in, g);
    for (int threads : {2, 5}) {
      const std::unique_ptr<Ops> many = make_ops("cpu", dtype, threads);
      const Arrays forward_many = forward(*many, {in[1], in[2], in[3]}, g);
      const Arrays backward_many = backward_twice(*many, in, g);
      for (size_t o = 0; o < 2; ++o) expect_same(forward_many[o], forward_one[o], concat("forward output ", o));
      // Slots that no row sees keep what they held.
      for (size_t o = 0; o < 3; ++o) expect_same(backward_many[o], backward_one[o], concat("backward output ", o));
    }
  }
}

TEST(Attention, WrongShapesAreNamed) {
  Geometry g;
  g.add({1, 2}, 2, 0);
  Geometry blocks = g;
  blocks.block_size = 2;
  blocks.blocks_per_list = 1;
  blocks.block_table = {0};
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const DeviceRows rows(*ops, g), paged(*ops, blocks);
    Buffer x(*ops, subject.compute, 2, 24, "x"), y(*ops, subject.compute, 3, 24, "y");
    Buffer lse(*ops, ops->master_dtype(), 2, 2, "lse");
    const Tensor three = x.tensor().heads(8), two = x.tensor().column_range(0, 16).heads(8);
    const Tensor long_three = y.tensor().heads(8);
    EXPECT_EQ(message_of([&] { ops->attention_forward(three, two, two, rows.get(), three, {}); }),
              "attention_forward: 3 query heads over 2 key heads, but a multiple is needed");
    EXPECT_EQ(message_of([&] { ops->attention_forward(long_three, three, three, rows.get(), three, {}); }),
              "attention_forward: y is 3 x 3 x 8, but 2 x 3 x 8 is needed");
    EXPECT_EQ(message_of([&] { ops->attention_forward(x.tensor(), three, three, rows.get(), three, {}); }),
              "attention_forward: x has rank 2, but [rows, heads, head dim] is needed");
    EXPECT_EQ(message_of([&] { ops->attention_forward(three, three, three, rows.get(), three, lse.tensor()); }),
              "attention_forward: lse is 2 x 2, but 2 x 3 is needed");
    EXPECT_EQ(
        message_of([&] { ops->attention_backward(two, two, two, two, two, lse.tensor(), paged.get(), two, two, two); }),
        "attention_backward: keys in blocks of 2, but a backward pass needs them in one run (block_size 0)");
  }
}

}  // namespace
}  // namespace mor::test
