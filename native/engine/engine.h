// Engine: many generation requests over one model, one step at a time. Its owner calls it from one thread.
#pragma once

#include <vector>

#include "engine/runner.h"
#include "engine/scheduler.h"

namespace mor {

struct EngineOptions {
  int32_t max_batch_size = 64;  ///< most decoding sequences in one pass of the block
  int32_t prefill_chunk = 256;  ///< most prompt tokens in flight at a time, in addition
  /// For keys and values. 0: room for eight sequences of full context in a cache without recursions, at most a quarter
  /// of device_memory_bytes.
  size_t kv_cache_bytes = 0;
  size_t device_memory_bytes = 0;  ///< 0: unknown
  int32_t block_size = 8;          ///< tokens of one KV block under the recursions; see KvCache for the other layers
  bool prefix_cache = true;        ///< keep keys for later requests with the same beginning, until the room is needed
};

/// What is wrong with the options is known before an engine has memory. Throws what Engine throws, except where the
/// memory is missing.
void check_options(const ModelConfig& config, DType compute, const EngineOptions& options);

struct EngineStats : SchedulerStats {
  int64_t steps = 0;
  size_t kv_bytes_total = 0;    ///< of all blocks
  size_t kv_bytes_used = 0;     ///< by the running sequences; a block that several of them share counts once
  size_t kv_bytes_vanilla = 0;  ///< of running_tokens, if every layer of the unrolled model cached every token
};

class Engine {
 public:
  /// The model must outlive the engine. Throws OUT_OF_MEMORY naming the KV bytes asked for.
  Engine(const Model& model, const EngineOptions& options);

  /// Generates at most what fits into the context. Throws INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW
  /// (also where the KV cache could never hold the request), with both values; other requests go on.
  void submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params);
  /// The next step reports the request's finish event with reason abort. Does nothing for unknown or finished requests.
  void abort(uint64_t request);
  /// Takes one step and appends its events. Returns whether any request is unfinished. If a stage fails, also for want
  /// of memory, the requests that run end with its error.
  bool step(std::vector<RequestEvent>& events);
  EngineStats stats() const;
  /// Bytes of device memory: the whole cache, and the residual stream with what stages compute.
  struct Memory {
    size_t kv_cache, activations;
  };
  Memory memory() const { return {cache_.memory_bytes(), runner_.memory_bytes()}; }

 private:
  const Model& model_;
  KvCache cache_;
  Scheduler scheduler_;
  Runner runner_;
  int64_t steps_ = 0;
  uint64_t weights_version_;
};

}  // namespace mor
