// Shards: buckets one after another, and what they have in common with a range.
#include "train/shards.h"

#include <algorithm>

#include "core/check.h"

namespace mor {

Shards::Shards(int64_t size, int32_t rank, int32_t ranks, int64_t bucket_size) : rank_(rank), kept_(size / ranks) {
  constexpr int64_t kAlignment = 64;
  MOR_CHECK(rank >= 0 && rank < ranks && size % ranks == 0, INTERNAL, size, " elements for rank ", rank, " of ", ranks);
  MOR_CHECK(bucket_size >= 1, INVALID_ARGUMENT, "a bucket has ", bucket_size, " elements; it needs at least 1");
  const int64_t stride = kAlignment * ranks, piece = (bucket_size + stride - 1) / stride * kAlignment;
  for (int64_t begin = 0, kept = 0; begin < size; begin = ranks * kept) {
    const int64_t own = std::min(piece, (size - begin) / ranks);
    buckets_.push_back({begin, own, kept});
    kept += own;
  }
}

std::vector<Shard> Shards::of(int64_t begin, int64_t count) const {
  std::vector<Shard> shards;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const Bucket& bucket = buckets_[b];
    const int64_t own = own_begin(bucket), first = std::max(begin, own),
                  last = std::min(begin + count, own + bucket.piece);
    if (first < last) shards.push_back({b, first, bucket.kept + first - own, last - first});
  }
  return shards;
}

}  // namespace mor
