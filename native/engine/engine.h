// Engine: many generation requests over one model, one step at a time. Its owner calls it from one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/scheduler_stats.h"
#include "model/model.h"

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

struct GenerateParams {
  int32_t max_tokens = 16;  ///< 0 only with prompt_logprobs
  double temperature = 0;   ///< 0: greedy
  int32_t top_k = 0;        ///< 0: off
  double top_p = 1;         ///< 1: off
  double min_p = 0;         ///< least probability of a token, relative to that of the most likely one; 0: off
  uint64_t seed = 0;
  // What changes logits before the draw, in this order.
  std::vector<TokenBias> logit_bias;  ///< finite; biases of one token add up
  double repetition_penalty = 1;      ///< divides positive logits of tokens in prompt or output, and multiplies others
  double presence_penalty = 0;        ///< is subtracted for tokens in the output
  double frequency_penalty = 0;       ///< is subtracted for each time that a token is in the output
  int32_t priority = 0;           ///< higher is served first and may displace lower ones; equals in order of arrival
  std::vector<int32_t> stop;      ///< ids that end the sequence; the id itself is not reported
  int32_t min_tokens = 0;         ///< before it, no id of `stop` is drawn
  double router_threshold = 0.5;  ///< docs/model.md section 3
  int32_t max_recursions = 0;     ///< 0: all
  bool logprobs = false;
  int32_t top_logprobs = 0;  ///< how many of the most likely tokens to report for each token, at most kMostTopLogprobs
  /// As top_logprobs, for each token of the prompt; -1: the prompt is not reported, and its beginning may be found in
  /// the prefix cache.
  int32_t prompt_logprobs = -1;
};

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
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Generates at most what fits into the context. Throws INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW or
  /// OUT_OF_MEMORY (the KV cache could never hold the request), with both values; other requests go on.
  void submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params);
  /// The next step reports the request's finish event with reason abort. Does nothing for unknown or finished requests.
  void abort(uint64_t request);
  /// Takes one step and appends its events. Returns whether any request is unfinished. If a stage fails, also for want
  /// of memory, the requests that run end with its error.
  bool step(std::vector<RequestEvent>& events);
  EngineStats stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mor
