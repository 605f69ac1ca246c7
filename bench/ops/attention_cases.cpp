// Cases of attention: over one sequence, as in training, and over paged caches, as in decoding.
#include <algorithm>
#include <numeric>

#include "bench/ops/case.h"

namespace mor::bench {

namespace {

constexpr int32_t kDecodedSequences = 64, kCachedKeys = 1024, kBlockSize = 16;

/// One causal sequence of `rows` rows.
Rows causal(Buffers& b, int64_t rows) {
  Rows r;
  r.count = r.max_rows = r.max_keys = static_cast<int32_t>(rows);
  r.key_lists = 1;
  r.start = r.key_start = b.integers({0, r.count});
  r.position = b.counting(rows);
  r.visible = b.counting(rows, 1);
  return r;
}

/// One new row for each of many sequences, whose keys are in scattered blocks of a cache.
Rows decoding(Buffers& b) {
  constexpr int32_t kBlocks = kCachedKeys / kBlockSize;
  Rows r;
  r.count = r.key_lists = kDecodedSequences;
  r.max_rows = 1;
  r.max_keys = kCachedKeys;
  r.block_size = kBlockSize;
  r.blocks_per_list = kBlocks;
  std::vector<int32_t> table(static_cast<size_t>(kDecodedSequences) * kBlocks);
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(3));
  r.start = b.counting(kDecodedSequences + 1);
  r.position = b.integers(std::vector<int32_t>(kDecodedSequences, kCachedKeys - 1));
  r.visible = b.integers(std::vector<int32_t>(kDecodedSequences, kCachedKeys));
  r.block_table = b.integers(table);
  return r;
}

}  // namespace

void add_attention_cases(const Shape& s, Cases& cases) {
  const double r = static_cast<double>(s.rows), q = static_cast<double>(s.query_size());
  const double kv = static_cast<double>(s.key_value_size()), h = static_cast<double>(s.heads);
  const double pairs = r * (r + 1) / 2;
  const auto heads = [=](Buffers& b, int64_t rows, int64_t count) {
    return b.activations(rows, count * s.head_dim).heads(s.head_dim);
  };
  const double forward_bytes = s.size * (2 * r * q + 2 * r * kv) + 4 * r * h;
  cases.add({.op = "attention_forward", .flops = 4 * pairs * q, .bytes = forward_bytes}, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, s.rows, s.heads), out = heads(b, s.rows, s.heads);
    const Tensor k = heads(b, s.rows, s.key_value_heads), v = heads(b, s.rows, s.key_value_heads);
    const Tensor lse = b.masters(s.rows, s.heads);
    const Rows rows = causal(b, s.rows);
    return [=](Ops& ops) { ops.attention_forward(query, k, v, rows, out, lse); };
  });

  const double backward_bytes = s.size * (4 * r * q + 6 * r * kv) + 4 * r * h;
  cases.add({.op = "attention_backward", .flops = 10 * pairs * q, .bytes = backward_bytes}, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, s.rows, s.heads), out = heads(b, s.rows, s.heads);
    const Tensor k = heads(b, s.rows, s.key_value_heads), v = heads(b, s.rows, s.key_value_heads);
    const Tensor d_out = heads(b, s.rows, s.heads), d_q = heads(b, s.rows, s.heads);
    const Tensor d_k = heads(b, s.rows, s.key_value_heads), d_v = heads(b, s.rows, s.key_value_heads);
    const Tensor lse = b.masters(s.rows, s.heads);
    const Rows rows = causal(b, s.rows);
    b.ops().attention_forward(query, k, v, rows, out, lse);
    return [=](Ops& ops) { ops.attention_backward(d_out, query, k, v, out, lse, rows, d_q, d_k, d_v); };
  });

  const double keys = double{kDecodedSequences} * kCachedKeys;
  Case decode{.op = "attention_forward", .variant = "decode", .flops = 4 * keys * q};
  decode.bytes = s.size * (2 * keys * kv + 2 * kDecodedSequences * q);
  cases.add(decode, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, kDecodedSequences, s.heads), out = heads(b, kDecodedSequences, s.heads);
    const int64_t slots = int64_t{kDecodedSequences} * kCachedKeys;
    const Tensor k = heads(b, slots, s.key_value_heads), v = heads(b, slots, s.key_value_heads);
    const Rows rows = decoding(b);
    return [=](Ops& ops) { ops.attention_forward(query, k, v, rows, out, {}); };
  });
}

}  // namespace mor::bench
