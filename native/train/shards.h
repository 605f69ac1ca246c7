// Shards: how the flat buffers of a trainer are divided among the ranks that train one model together
// (docs/distributed.md). Must not know of tensors or devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mor {

/// Neighbouring elements of a flat buffer that travel together. Each rank keeps an equal piece of them.
struct Bucket {
  int64_t begin = 0;  ///< the first of them
  int64_t piece = 0;  ///< elements of one piece; that of rank r is [begin + r * piece, begin + (r + 1) * piece)
  int64_t kept = 0;   ///< where this rank's piece begins in a buffer of what it keeps
};

/// Neighbouring elements of one bucket that this rank keeps.
struct Shard {
  size_t bucket = 0;
  int64_t begin = 0;  ///< in the flat buffer
  int64_t kept = 0;   ///< in a buffer of what this rank keeps
  int64_t count = 0;
};

class Shards {
 public:
  /// size: elements of a flat buffer, a multiple of `ranks`. bucket_size: the elements that a bucket should have; they
  /// become a multiple of 64 for each rank. The last bucket has what is left.
  Shards(int64_t size, int32_t rank, int32_t ranks, int64_t bucket_size);

  const std::vector<Bucket>& buckets() const { return buckets_; }
  /// Elements that this rank keeps; as many as every other one.
  int64_t kept() const { return kept_; }
  /// Where this rank's piece of a bucket begins in the flat buffer.
  int64_t own_begin(const Bucket& bucket) const { return bucket.begin + rank_ * bucket.piece; }
  /// What this rank keeps of the elements [begin, begin + count), in rising order.
  std::vector<Shard> of(int64_t begin, int64_t count) const;

 private:
  int32_t rank_;
  int64_t kept_;
  std::vector<Bucket> buckets_;
};

}  // namespace mor
