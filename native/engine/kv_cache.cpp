// KvCache: layout and memory.
#include "engine/kv_cache.h"

#include <algorithm>
#include <limits>

namespace mor {

KvLayout::KvLayout(const ModelConfig& config, DType compute, int32_t block_size)
    : inside_layers(config.body_layers()),
      outside_layers(config.layers_before() + config.layers_after()),
      inside_tokens(block_size),
      outside_tokens(block_size) {
  // Both kinds of block have the same number of slots.
  if (inside_layers > 0 && outside_layers > 0) {
    while (inside_tokens * inside_layers % outside_layers != 0) ++inside_tokens;
    outside_tokens = inside_tokens * inside_layers / outside_layers;
  }
  slots_per_block = int64_t{2} * (inside_layers > 0 ? inside_tokens * inside_layers : outside_tokens * outside_layers);
  block_bytes = static_cast<size_t>(slots_per_block * config.key_value_size()) * dtype_size(compute);
}

int32_t KvLayout::blocks(size_t bytes) const {
  const int64_t addressable = std::numeric_limits<int32_t>::max() / slots_per_block;  // slots are int32
  const auto count = static_cast<int32_t>(std::min<int64_t>(static_cast<int64_t>(bytes / block_bytes), addressable));
  MOR_CHECK(count > 0, INVALID_ARGUMENT, "kvCacheBytes is ", bytes, ", but one block of keys and values takes ",
            block_bytes, "; raise it, or leave it out");
  return count;
}

KvCache::KvCache(const Model& model, int32_t block_size, size_t bytes)
    : ops_(model.ops()),
      layout_(model.config(), ops_.compute_dtype(), block_size),
      head_dim_(model.config().head_dim),
      blocks_(layout_.blocks(bytes)),
      memory_(ops_) {
  const size_t taken = static_cast<size_t>(blocks_) * layout_.block_bytes;
  try {
    memory_.reserve(taken);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    MOR_FAIL(OUT_OF_MEMORY, "no room for a KV cache of ", taken, " bytes (", error.what(), "); lower kvCacheBytes");
  }
  const int64_t slots = blocks_ * layout_.slots_per_block;
  pool_ = memory_.tensor(ops_.compute_dtype(), slots, model.config().key_value_size(), "kv cache");
}

size_t KvCache::vanilla_bytes(const ModelConfig& config, DType compute, int64_t tokens) {
  return static_cast<size_t>(tokens * config.num_hidden_layers * 2 * config.key_value_size()) * dtype_size(compute);
}

void KvCache::describe(SchedulerConfig& config) const {
  config.blocks = blocks_;
  config.block_size = layout_.inside_tokens;
  config.outside_block_size = layout_.outside_tokens;
  config.block_stride = 2 * layout_.inside_layers;
  config.outside_block_stride = 2 * layout_.outside_layers;
}

LayerKeys KvCache::inside(int32_t i, KeySource source) const {
  return layer(i, layout_.inside_tokens, source);
}

LayerKeys KvCache::outside(int32_t i) const {
  return layer(i, layout_.outside_tokens, KeySource::cache);
}

void KvCache::copy_block(int32_t from, int32_t to) const {
  char* const pool = static_cast<char*>(pool_.data);
  ops_.copy(pool + static_cast<size_t>(to) * layout_.block_bytes,
            pool + static_cast<size_t>(from) * layout_.block_bytes, layout_.block_bytes);
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
