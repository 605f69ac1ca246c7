// Engine: many generation requests over one model: admission, KV cache, one step at a time.
// Single-threaded: its owner calls it from one thread. Must not know of Node, threads or training.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/sequence.h"
#include "model/model.h"

namespace mor {

struct EngineOptions {
  int32_t max_batch_size = 64;  ///< most decoding rows in one step
  int32_t prefill_chunk = 256;  ///< most prompt rows in flight beside them
  size_t kv_cache_bytes = 0;    ///< 0: room for 8 sequences of full context, at most a quarter of device_memory_bytes
  size_t device_memory_bytes = 0;  ///< 0: unknown
  int32_t block_size = 16;         ///< least tokens of one KV block
};

struct GenerateParams {
  int32_t max_tokens = 16;
  double temperature = 0;  ///< 0: greedy
  int32_t top_k = 0;       ///< 0: off
  double top_p = 1;        ///< 1: off
  uint64_t seed = 0;
  std::vector<int32_t> stop;      ///< ids that end the sequence; the id itself is not reported
  double router_threshold = 0.5;  ///< mor.md section 3
  int32_t max_recursions = 0;     ///< 0: all
  bool logprobs = false;
};

struct EngineStats {
  int64_t running = 0, waiting = 0, finished = 0, tokens_generated = 0, prompt_tokens = 0, steps = 0;
  int64_t preemptions = 0;  ///< sequences thrown out of a full cache, to be computed again
  int64_t kv_blocks_total = 0, kv_blocks_used = 0;
  size_t kv_bytes_used = 0;              ///< by the running sequences
  size_t kv_bytes_vanilla = 0;           ///< what the same tokens would take without recursion-wise caching
  std::vector<int64_t> depth_histogram;  ///< [N] generated and prompt tokens that ran r + 1 recursions
};

class Engine {
 public:
  /// The model must outlive the engine. Throws OUT_OF_MEMORY naming the KV bytes asked for.
  Engine(const Model& model, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Generates at most what fits into the context. Throws INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW or
  /// OUT_OF_MEMORY (the KV cache could never hold it) naming both values; the engine goes on.
  void submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params);
  /// The request's finish event (reason abort) comes with the next step. Unknown or finished requests: nothing.
  void abort(uint64_t request);
  /// One step of work; appends what happened. Returns whether any request is still unfinished.
  bool step(std::vector<EngineEvent>& events);
  EngineStats stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mor
