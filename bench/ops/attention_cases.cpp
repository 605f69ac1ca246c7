// Cases of attention: over one sequence, as in training, and over paged caches, as in decoding.
#include <algorithm>
#include <numeric>

#include "bench/ops/case.h"

namespace mor::bench {

namespace {

constexpr int32_t kDecodedSequences = 64, kCachedKeys = 1024, kBlockSize = 16;

/// Whole causal sequences of the same length.
Rows causal(Buffers& b, const Sequences& sequences) {
  Rows r;
  r.count = static_cast<int32_t>(sequences.rows());
  r.max_rows = r.max_keys = static_cast<int32_t>(sequences.length);
  r.key_lists = static_cast<int32_t>(sequences.count);
  r.start = r.key_start = b.counting(sequences.count + 1, 0, r.max_rows);
  std::vector<int32_t> position(static_cast<size_t>(r.count)), visible(position.size());
  for (int32_t i = 0; i < r.count; ++i) {
    position[static_cast<size_t>(i)] = i % r.max_rows;
    visible[static_cast<size_t>(i)] = i % r.max_rows + 1;
  }
  r.position = b.integers(position);
  r.visible = b.integers(visible);
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

Tensor heads(Buffers& b, int64_t rows, int64_t count, int64_t head_dim) {
  return b.activations(rows, count * head_dim).heads(head_dim);
}

void add_causal(const Shape& s, const Sequences& sequences, Cases& cases) {
  const int64_t n = sequences.rows(), query_heads = s.heads, kv_heads = s.key_value_heads, hd = s.head_dim;
  const double r = static_cast<double>(n), q = static_cast<double>(s.query_size());
  const double kv = static_cast<double>(s.key_value_size()), h = static_cast<double>(s.heads);
  const double pairs = r * static_cast<double>(sequences.length + 1) / 2;
  const std::string variant = concat(sequences.count, "x", sequences.length);
  const double forward_bytes = s.size * (2 * r * q + 2 * r * kv) + 4 * r * h;
  Case forward{.op = "attention_forward", .variant = variant, .flops = 4 * pairs * q, .bytes = forward_bytes};
  cases.add(forward, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, n, query_heads, hd), out = heads(b, n, query_heads, hd);
    const Tensor k = heads(b, n, kv_heads, hd), v = heads(b, n, kv_heads, hd), lse = b.masters(n, query_heads);
    const Rows rows = causal(b, sequences);
    return [=](Ops& ops) { ops.attention_forward(query, k, v, rows, out, lse); };
  });

  const double backward_bytes = s.size * (4 * r * q + 6 * r * kv) + 4 * r * h;
  Case backward{.op = "attention_backward", .variant = variant, .flops = 10 * pairs * q, .bytes = backward_bytes};
  cases.add(backward, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, n, query_heads, hd), out = heads(b, n, query_heads, hd);
    const Tensor k = heads(b, n, kv_heads, hd), v = heads(b, n, kv_heads, hd);
    const Tensor d_out = heads(b, n, query_heads, hd), d_q = heads(b, n, query_heads, hd);
    const Tensor d_k = heads(b, n, kv_heads, hd), d_v = heads(b, n, kv_heads, hd), lse = b.masters(n, query_heads);
    const Rows rows = causal(b, sequences);
    b.ops().attention_forward(query, k, v, rows, out, lse);
    return [=](Ops& ops) { ops.attention_backward(d_out, query, k, v, out, lse, rows, d_q, d_k, d_v); };
  });
}

}  // namespace

void add_attention_cases(const Shape& s, Cases& cases) {
  for (const Sequences& sequences : s.attention) add_causal(s, sequences, cases);
  const double q = static_cast<double>(s.query_size()), kv = static_cast<double>(s.key_value_size());
  const double keys = double{kDecodedSequences} * kCachedKeys;
  Case decode{.op = "attention_forward", .variant = "decode", .flops = 4 * keys * q};
  decode.bytes = s.size * (2 * keys * kv + 2 * kDecodedSequences * q);
  cases.add(decode, [=](Buffers& b) -> Run {
    const Tensor query = heads(b, kDecodedSequences, s.heads, s.head_dim);
    const Tensor out = heads(b, kDecodedSequences, s.heads, s.head_dim);
    const int64_t slots = int64_t{kDecodedSequences} * kCachedKeys;
    const Tensor k = heads(b, slots, s.key_value_heads, s.head_dim), v = heads(b, slots, s.key_value_heads, s.head_dim);
    const Rows rows = decoding(b);
    return [=](Ops& ops) { ops.attention_forward(query, k, v, rows, out, {}); };
  });
}

}  // namespace mor::bench
