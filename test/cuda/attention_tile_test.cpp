// attention in bf16 by tiles that cp.async can load: sequences with many rows, with few rows and keys in stretches, and
// both in one batch; and that the bits of a row do not depend on its neighbours' keys.
#include <limits>

#include "test/cuda/gpu.h"
#include "test/ops/harness.h"

namespace mor::test {
namespace {

struct Sequence {
  int32_t rows, first_visible;  ///< row i sees first_visible + i keys
};

struct Batch {
  int64_t heads, key_heads, head_dim;
  std::vector<Sequence> sequences;
  std::vector<int32_t> start = {0}, visible, key_start;
  int64_t slots = 0;
  Rows rows;

  Batch(int64_t heads_, int64_t key_heads_, int64_t head_dim_, const std::vector<Sequence>& sequences_)
      : heads(heads_), key_heads(key_heads_), head_dim(head_dim_), sequences(sequences_) {
    for (const Sequence& s : sequences) {
      for (int32_t i = 0; i < s.rows; ++i) visible.push_back(s.first_visible + i);
      start.push_back(static_cast<int32_t>(visible.size()));
      key_start.push_back(static_cast<int32_t>(slots));
      slots += s.first_visible + s.rows - 1;
      rows.max_rows = std::max(rows.max_rows, s.rows);
      rows.max_keys = std::max(rows.max_keys, s.first_visible + s.rows - 1);
    }
    rows.count = static_cast<int32_t>(visible.size());
    rows.key_lists = static_cast<int32_t>(sequences.size());
  }
  int64_t query_columns() const { return heads * head_dim; }
  int64_t key_columns() const { return key_heads * head_dim; }
  Arrays inputs(uint32_t seed) const {
    return {random_array(rows.count, query_columns(), seed), random_array(slots, key_columns(), seed + 1),
            random_array(slots, key_columns(), seed + 2), random_array(rows.count, query_columns(), seed + 3)};
  }
};

/// inputs: q, k, v, d_out. outputs: out, lse, and with the backward d_q, d_k, d_v.
Arrays run(Ops& ops, const Arrays& in, const Batch& batch, bool backward) {
  const DType dtype = ops.compute_dtype();
  const int64_t n = batch.rows.count, h = batch.query_columns(), kv = batch.key_columns();
  const auto heads = [&](const Buffer& b) { return b.tensor().heads(batch.head_dim); };
  Buffer q(ops, dtype, n, h, "q", h + 8), k(ops, dtype, batch.slots, kv, "k", kv + 16),
      v(ops, dtype, batch.slots, kv, "v");
  Buffer d_out(ops, dtype, n, h, "d_out"), out(ops, dtype, n, h, "out"), d_q(ops, dtype, n, h, "d_q");
  Buffer d_k(ops, dtype, batch.slots, kv, "d_k"), d_v(ops, dtype, batch.slots, kv, "d_v", kv + 8);
  Buffer lse(ops, ops.master_dtype(), n, batch.heads, "lse");
  q.set(in[0]);
  k.set(in[1]);
  v.set(in[2]);
  d_out.set(in[3]);
  d_k.set(in[1]);
  d_v.set(in[2]);
  const Integers start(ops, batch.start), visible(ops, batch.visible), key_start(ops, batch.key_start);
  Rows rows = batch.rows;
  rows.start = start.data();
  rows.visible = visible.data();
  rows.key_start = key_start.data();
  ops.attention_forward(heads(q), heads(k), heads(v), rows, heads(out), lse.tensor());
  if (!backward) return {out.get(), lse.get()};
  ops.attention_backward(heads(d_out), heads(q), heads(k), heads(v), heads(out), lse.tensor(), rows, heads(d_q),
                         heads(d_k), heads(d_v));
  return {out.get(), lse.get(), d_q.get(), d_k.get(), d_v.get()};
}

using AttentionTile = GpuTest;

TEST_F(AttentionTile, MatchesReference) {
  const int32_t stretch = cuda::kDecodeStretch;
  for (const auto& [heads, key_heads, head_dim] :
       {std::tuple<int64_t, int64_t, int64_t>{6, 2, 64}, {2, 2, 128}, {2, 1, 40}, {2, 1, 72}}) {
    SCOPED_TRACE(concat(heads, " heads, ", key_heads, " key heads of ", head_dim));
    const Batch batch(heads, key_heads, head_dim,
                      {{140, 1}, {1, 3 * stretch + 1}, {1, stretch}, {5, stretch - 2}, {70, 40}, {1, 1}, {65, 1}});
    compare_with_reference([&](Ops& ops, const Arrays& in) { return run(ops, in, batch, true); }, batch.inputs(1),
                           {true, true, true, true}, {true, false, true, true, true});
  }
}

/// More tiles of keys than shared memory holds at once; sequences that fill no tile of Hopper's kernels beside others
/// that do; and none but the latter.
TEST_F(AttentionTile, LongSequencesMatchReference) {
  for (const Batch& batch : {Batch(3, 1, 64, {{30, 1}, {64, 400}, {0, 1}, {9, 200}}), Batch(3, 1, 128, {{70, 200}}),
                             Batch(5, 1, 40, {{45, 1}, {45, 150}})}) {
    SCOPED_TRACE(concat(batch.heads, " heads of ", batch.head_dim));
    compare_with_reference([&](Ops& ops, const Arrays& in) { return run(ops, in, batch, true); }, batch.inputs(4),
                           {true, true, true, true}, {true, false, true, true, true});
  }
}

#if defined(MOR_CUDA_HOST)
/// GPUs before Hopper compute by other kernels what fills a tile of Hopper's.
TEST_F(AttentionTile, LongSequencesMatchReferenceBeforeHopper) {
  struct BeforeHopper {
    BeforeHopper() { cuda_host::machine().compute_capability_major = 8; }
    ~BeforeHopper() { cuda_host::machine().compute_capability_major = 9; }
  } const before_hopper;
  for (const Batch& batch : {Batch(3, 1, 64, {{130, 40}, {20, 80}}), Batch(2, 1, 128, {{66, 40}, {20, 80}})}) {
    SCOPED_TRACE(concat(batch.heads, " heads of ", batch.head_dim));
    compare_with_reference([&](Ops& ops, const Arrays& in) { return run(ops, in, batch, true); }, batch.inputs(5),
                           {true, true, true, true}, {true, false, true, true, true});
  }
}
#endif

/// More query heads for each key head than a decode tile has lanes, and sequences of the same length.
TEST_F(AttentionTile, WideGroupsMatchReference) {
  for (const Batch& batch : {Batch(34, 2, 16, {{1, 100}, {1, 20}}), Batch(4, 2, 64, {{70, 1}, {70, 9}})}) {
    SCOPED_TRACE(concat(batch.heads, " heads"));
    compare_with_reference([&](Ops& ops, const Arrays& in) { return run(ops, in, batch, false); }, batch.inputs(2),
                           {true, true, true, true}, {true, false});
  }
}

/// A row is decoded alone, with its keys in one stretch, and beside sequences with more keys and more rows.
TEST_F(AttentionTile, DecodedRowsDependOnNoNeighbour) {
  const Batch batch(6, 2, 64, {{1, 100}, {1, 5 * cuda::kDecodeStretch}, {90, 1}});
  const Batch alone(6, 2, 64, {{1, 100}});
  const Arrays in = batch.inputs(3);
  const auto first = [](const Array& a, int64_t rows) {
    Array some(rows, a.columns);
    std::copy(a.values.begin(), a.values.begin() + rows * a.columns, some.values.begin());
    return some;
  };
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays beside = run(*ops, in, batch, false);
    const Arrays by_itself =
        run(*ops, {first(in[0], 1), first(in[1], 100), first(in[2], 100), first(in[3], 1)}, alone, false);
    EXPECT_EQ(first(beside[0], 1).values, by_itself[0].values);
    EXPECT_EQ(first(beside[1], 1).values, by_itself[1].values);
  }
}

}  // namespace
}  // namespace mor::test
