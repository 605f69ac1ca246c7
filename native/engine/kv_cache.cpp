// KvCache: layout and memory.
#include "engine/kv_cache.h"

#include <algorithm>
#include <limits>

namespace mor {

KvCache::KvCache(const Model& model, int32_t block_size, size_t bytes)
    : ops_(model.ops()),
      inside_layers_(model.config().body_layers()),
      outside_layers_(model.config().layers_before() + model.config().layers_after()),
      inside_tokens_(block_size),
      outside_tokens_(block_size),
      key_value_size_(model.config().key_value_size()),
      head_dim_(model.config().head_dim),
      memory_(ops_) {
  // Both kinds of block have the same number of slots.
  if (inside_layers_ > 0 && outside_layers_ > 0) {
    while (inside_tokens_ * inside_layers_ % outside_layers_ != 0) ++inside_tokens_;
    outside_tokens_ = inside_tokens_ * inside_layers_ / outside_layers_;
  }
  const int64_t slots_per_block =
      int64_t{2} * (inside_layers_ > 0 ? inside_tokens_ * inside_layers_ : outside_tokens_ * outside_layers_);
  const DType compute = ops_.compute_dtype();
  block_bytes_ = static_cast<size_t>(slots_per_block * key_value_size_) * dtype_size(compute);
  const int64_t addressable = std::numeric_limits<int32_t>::max() / slots_per_block;  // slots are int32
  blocks_ = static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(bytes / block_bytes_), addressable));
  MOR_CHECK(blocks_ > 0, INVALID_ARGUMENT, "kvCacheBytes is ", bytes, ", but one block of keys and values takes ",
            block_bytes_);
  const size_t taken = static_cast<size_t>(blocks_) * block_bytes_;
  try {
    memory_.reserve(taken);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    MOR_FAIL(OUT_OF_MEMORY, "no room for a KV cache of ", taken, " bytes (", error.what(), "); lower kvCacheBytes");
  }
  pool_ = memory_.tensor(compute, blocks_ * slots_per_block, key_value_size_, "kv cache");
}

size_t KvCache::vanilla_bytes(const ModelConfig& config, DType compute, int64_t tokens) {
  return static_cast<size_t>(tokens * config.num_hidden_layers * 2 * config.key_value_size()) * dtype_size(compute);
}

void KvCache::describe(SchedulerConfig& config) const {
  config.blocks = blocks_;
  config.block_size = inside_tokens_;
  config.outside_block_size = outside_tokens_;
  config.block_stride = 2 * inside_layers_;
  config.outside_block_stride = 2 * outside_layers_;
}

LayerKeys KvCache::inside(int32_t i, KeySource source) const {
  return layer(i, inside_tokens_, source);
}

LayerKeys KvCache::outside(int32_t i) const {
  return layer(i, outside_tokens_, KeySource::cache);
}

void KvCache::copy_block(int32_t from, int32_t to) const {
  char* const pool = static_cast<char*>(pool_.data);
  ops_.copy(pool + static_cast<size_t>(to) * block_bytes_, pool + static_cast<size_t>(from) * block_bytes_,
            block_bytes_);
}

LayerKeys KvCache::layer(int32_t i, int32_t tokens, KeySource source) const {
  // From the layer's first slot to the last one that a block table can name.
  const int64_t slots = pool_.rows() - pool_.rows() / blocks_ + tokens;
  const auto from = [&](int64_t first, const char* name) {
    return pool_.slice(first, slots).heads(head_dim_).named(name);
  };
  LayerKeys keys;
  keys.source = source;
  keys.k = from(int64_t{2} * i * tokens, "cached keys");
  keys.v = from((int64_t{2} * i + 1) * tokens, "cached values");
  return keys;
}

}  // namespace mor
