// Engine: checks requests and joins the scheduler and the runner.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <set>

#include "model/router.h"

namespace mor {

namespace {

/// Of the blocks those that copies of queries take for one pass.
int32_t scratch_blocks(const RoutingRules& rules, int32_t block_size, const EngineOptions& options) {
  if (!rules.queries_only(rules.passes())) return 0;
  return static_cast<int32_t>(blocks_of(options.max_batch_size + options.prefill_chunk, block_size));
}

size_t cache_bytes(const ModelConfig& config, DType compute, const EngineOptions& options) {
  if (options.kv_cache_bytes > 0) return options.kv_cache_bytes;
  const KvLayout layout(config, compute, options.block_size);
  const auto scratch = static_cast<size_t>(scratch_blocks(routing_rules(config), layout.inside_tokens, options));
  const size_t wanted = KvCache::vanilla_bytes(config, compute, int64_t{8} * config.max_position_embeddings) +
                        scratch * layout.block_bytes;
  return options.device_memory_bytes > 0 ? std::min(wanted, options.device_memory_bytes / 4) : wanted;
}

const EngineOptions& checked(const EngineOptions& options) {
  const auto check = [](const char* name, int32_t value) {
    MOR_CHECK(value >= 1, INVALID_ARGUMENT, name, " must be at least 1, got ", value);
  };
  check("maxBatchSize", options.max_batch_size);
  check("prefillChunk", options.prefill_chunk);
  check("the tokens of a KV block", options.block_size);
  return options;
}

void check_blocks(int32_t blocks, int32_t scratch, const EngineOptions& options) {
  MOR_CHECK(scratch < blocks, OUT_OF_MEMORY, "kvCacheBytes holds ", blocks, " blocks, of which maxBatchSize ",
            options.max_batch_size, " and prefillChunk ", options.prefill_chunk, " take ", scratch,
            " as scratch; raise kvCacheBytes or lower the other two");
}

/// What would crash the engine or spoil its arithmetic. lib/sampling.ts tells a user what is allowed.
void check_params(const GenerateParams& p) {
  const auto check = [](const char* name, double value, bool good) {
    MOR_CHECK(good, INVALID_ARGUMENT, "a request cannot have ", name, " ", value);
  };
  const auto finite = [](double value) { return std::isfinite(static_cast<float>(value)); };
  check("maxTokens", p.max_tokens, p.max_tokens >= (p.prompt_logprobs < 0 ? 1 : 0));
  check("temperature", p.temperature, p.temperature >= 0 && finite(p.temperature));
  check("topK", p.top_k, p.top_k >= 0);
  check("topP", p.top_p, static_cast<float>(p.top_p) > 0 && p.top_p <= 1);
  check("minP", p.min_p, p.min_p >= 0 && p.min_p <= 1);
  check("minTokens", p.min_tokens, p.min_tokens >= 0);
  check("repetitionPenalty", p.repetition_penalty,
        finite(p.repetition_penalty) && static_cast<float>(p.repetition_penalty) > 0);
  check("presencePenalty", p.presence_penalty, finite(p.presence_penalty));
  check("frequencyPenalty", p.frequency_penalty, finite(p.frequency_penalty));
  for (const TokenBias& bias : p.logit_bias) check("a logitBias of", bias.bias, finite(bias.bias));
  check("routerThreshold", p.router_threshold, p.router_threshold >= 0 && p.router_threshold <= 1);
  check("maxRecursions", p.max_recursions, p.max_recursions >= 0);
  check("topLogprobs", p.top_logprobs, p.top_logprobs >= 0 && p.top_logprobs <= kMostTopLogprobs);
  check("promptLogprobs", p.prompt_logprobs, p.prompt_logprobs >= -1 && p.prompt_logprobs <= kMostTopLogprobs);
  check("promptLogprobsFrom", p.prompt_logprobs_from, p.prompt_logprobs_from >= 1);
}

SchedulerConfig scheduler_config(const Model& model, const KvCache& cache, const EngineOptions& options) {
  const ModelConfig& c = model.config();
  SchedulerConfig s;
  s.rules = routing_rules(model);
  s.layers_outside_block = c.layers_before() + c.layers_after() > 0;
  cache.describe(s);
  s.max_batch_size = options.max_batch_size;
  s.prefill_chunk = options.prefill_chunk;
  s.prefix_cache = options.prefix_cache;
  // With a router, tokens that have left the block wait for the boundary stages, and others keep the batch full.
  s.max_sequences = c.routed() ? 2 * options.max_batch_size : options.max_batch_size;
  s.scratch_blocks = scratch_blocks(s.rules, s.block_size, options);
  check_blocks(s.blocks, s.scratch_blocks, options);
  const double d = c.hidden_size;
  const double layer = d * (c.qkv_size() + c.query_size() + 3.0 * c.intermediate_size);
  s.block_cost = layer * c.body_layers();
  s.boundary_cost = layer * (c.layers_before() + c.layers_after()) + d * c.vocab_size;
  return s;
}

}  // namespace

void check_options(const ModelConfig& config, DType compute, const EngineOptions& options) {
  const KvLayout layout(config, compute, checked(options).block_size);
  const int32_t scratch = scratch_blocks(routing_rules(config), layout.inside_tokens, options);
  check_blocks(layout.blocks(cache_bytes(config, compute, options)), scratch, options);
}

Engine::Engine(const Model& model, const EngineOptions& options)
    : model_(model),
      cache_(model, checked(options).block_size, cache_bytes(model.config(), model.ops().compute_dtype(), options)),
      scheduler_(scheduler_config(model, cache_, options)),
      runner_(model, cache_, scheduler_.stream_rows()),
      weights_version_(model.weights_version()) {}

void Engine::submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params) {
  const ModelConfig& config = model_.config();
  const int32_t length = static_cast<int32_t>(prompt.size()), context = config.max_position_embeddings;
  MOR_CHECK(!prompt.empty(), INVALID_ARGUMENT, "the prompt is empty; it must hold at least one token");
  MOR_CHECK(length < context, CONTEXT_OVERFLOW, "the prompt has ", length, " tokens and the context holds ", context,
            ", which leaves no room to generate");
  const auto check_token = [&](const char* what, int32_t token) {
    MOR_CHECK(token >= 0 && token < config.vocab_size, TOKEN_OUT_OF_RANGE, what, " token ", token,
              "; the vocabulary has ids 0 to ", config.vocab_size - 1);
  };
  for (const int32_t token : prompt) check_token("the prompt holds", token);
  for (const TokenBias& bias : params.logit_bias) check_token("logitBias names", bias.token);
  check_params(params);
  const int32_t from = params.prompt_logprobs_from;
  MOR_CHECK(from == 1 || from < length, INVALID_ARGUMENT, "promptLogprobsFrom is ", from, ", but the prompt has only ",
            length, " tokens, which are counted from 0");

  Request r{params, request, std::move(prompt), score_threshold(params.router_threshold)};
  r.max_tokens = std::min(params.max_tokens, context - length);
  std::erase_if(r.stop, [&](int32_t token) { return token < 0 || token >= config.vocab_size; });
  r.max_recursions = routing_rules(config).passes(params.max_recursions);
  MOR_CHECK(r.min_tokens == 0 ||
                std::set<int32_t>(r.stop.begin(), r.stop.end()).size() < static_cast<size_t>(config.vocab_size),
            INVALID_ARGUMENT, "a request cannot have minTokens ", r.min_tokens, " and stop at all ", config.vocab_size,
            " tokens of the vocabulary, because then no token may come first");
  scheduler_.submit(std::move(r));
}

void Engine::abort(uint64_t request) {
  scheduler_.abort(request);
}

bool Engine::step(std::vector<RequestEvent>& events) {
  try {
    scheduler_.begin_step(events);
    if (!scheduler_.unfinished()) return false;
    ++steps_;
    if (const uint64_t version = model_.weights_version(); version != weights_version_) {
      scheduler_.set_thresholds(routing_rules(model_).thresholds);
      scheduler_.forget_prefixes();
      weights_version_ = version;
    }
    // While the device works, the scheduler does what does not depend on the outcome.
    const auto run = [&](void (Runner::*launch)(const StagePlan&), const StagePlan& plan) -> const StageOutcome& {
      (runner_.*launch)(plan);
      scheduler_.prepare();
      return runner_.collect();
    };
    if (const StagePlan* plan = scheduler_.plan_entry()) scheduler_.commit_rows(run(&Runner::launch_entry, *plan));
    if (const StagePlan* plan = scheduler_.plan_block()) scheduler_.commit_rows(run(&Runner::launch_block, *plan));
    if (const StagePlan* plan = scheduler_.plan_exit())
      scheduler_.commit_exit(run(&Runner::launch_exit, *plan), events);
  } catch (const Error& error) {
    scheduler_.fail_running(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    scheduler_.fail_running(ErrorCode::OUT_OF_MEMORY, "the host has no memory left");
  }
  try {
    scheduler_.begin_step(events);
  } catch (const std::bad_alloc&) {
    // The remaining ends are reported in a later step.
  }
  return scheduler_.unfinished();
}

EngineStats Engine::stats() const {
  EngineStats stats{scheduler_.stats()};
  stats.steps = steps_;
  stats.kv_bytes_total = static_cast<size_t>(stats.kv_blocks_total) * cache_.block_bytes();
  stats.kv_bytes_used = static_cast<size_t>(stats.kv_blocks_used) * cache_.block_bytes();
  stats.kv_bytes_vanilla = KvCache::vanilla_bytes(model_.config(), model_.ops().compute_dtype(), stats.running_tokens);
  return stats;
}

}  // namespace mor
