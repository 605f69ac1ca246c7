// KvCache: the memory of keys and values, and where each layer's part of a block of it is.
#pragma once

#include "engine/scheduler.h"
#include "model/model.h"

namespace mor {

/// How a cache is divided into blocks, without the memory.
struct KvLayout {
  KvLayout(const ModelConfig& config, DType compute, int32_t block_size);

  /// How many blocks fit into `bytes`. Throws INVALID_ARGUMENT with the bytes of one where not even that does.
  int32_t blocks(size_t bytes) const;

  int32_t inside_layers, outside_layers;  ///< of the recurring block, and of the model outside it
  int32_t inside_tokens, outside_tokens;  ///< that one block holds under these layers
  int64_t slots_per_block;
  size_t block_bytes;
};

/// One pool of equal blocks. A block holds keys of one sequence, either under the layers of the recurring block at one
/// recursion, or under the layers outside it. Both kinds have the same size in bytes, so that one pool serves both and
/// its shares need not be fixed in advance: a block holds `block_size` tokens under the b layers of the recurring
/// block, or block_size * b / o tokens under the o layers outside it. In a block, all keys and values of one layer are
/// together: [layer][key or value][token][kv * head_dim]. So the rows of the pool are slots (rows.h), a layer is an
/// offset, and one block table serves all layers of a stage.
class KvCache {
 public:
  /// Allocates as many blocks as fit into `bytes`. Throws as KvLayout::blocks, and OUT_OF_MEMORY with the bytes.
  KvCache(const Model& model, int32_t block_size, size_t bytes);

  /// Bytes of `tokens` tokens if every layer pass of the unrolled model cached every token.
  static size_t vanilla_bytes(const ModelConfig& config, DType compute, int64_t tokens);

  int32_t blocks() const { return blocks_; }
  size_t block_bytes() const { return layout_.block_bytes; }
  size_t memory_bytes() const { return memory_.capacity(); }
  /// Fills in the sizes and strides of the two kinds of block.
  void describe(SchedulerConfig& config) const;

  /// Keys and values of layer i of the recurring block, or of the i-th layer outside it: [slots, kv, head_dim].
  LayerKeys inside(int32_t i, KeySource source) const;
  LayerKeys outside(int32_t i) const;
  /// Copies a block on the device, with all of its layers.
  void copy_block(int32_t from, int32_t to) const;

 private:
  LayerKeys layer(int32_t i, int32_t tokens, KeySource source) const;

  Ops& ops_;
  KvLayout layout_;
  int64_t head_dim_;
  int32_t blocks_;
  Arena memory_;
  Tensor pool_;  ///< [slots, kv * head_dim]
};

}  // namespace mor
