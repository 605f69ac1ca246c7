// Engine: checks requests and joins the scheduler and the runner.
#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <set>

#include "engine/runner.h"
#include "engine/scheduler.h"
#include "model/router.h"

namespace mor {

namespace {

size_t cache_bytes(const Model& model, const EngineOptions& options) {
  if (options.kv_cache_bytes > 0) return options.kv_cache_bytes;
  const ModelConfig& config = model.config();
  const size_t wanted =
      KvCache::vanilla_bytes(config, model.ops().compute_dtype(), int64_t{8} * config.max_position_embeddings);
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
}

SchedulerConfig scheduler_config(const Model& model, const KvCache& cache, const EngineOptions& options) {
  const ModelConfig& c = model.config();
  SchedulerConfig s;
  s.rules = routing_rules(c);
  s.layers_outside_block = c.layers_before() + c.layers_after() > 0;
  cache.describe(s);
  s.max_batch_size = options.max_batch_size;
  s.prefill_chunk = options.prefill_chunk;
  s.prefix_cache = options.prefix_cache;
  // With a router, tokens that have left the block wait for the boundary stages, and others keep the batch full.
  s.max_sequences = c.routed() ? 2 * options.max_batch_size : options.max_batch_size;
  if (s.rules.queries_only(s.rules.passes()))
    s.scratch_blocks = static_cast<int32_t>(blocks_of(options.max_batch_size + options.prefill_chunk, s.block_size));
  MOR_CHECK(s.scratch_blocks < s.blocks, OUT_OF_MEMORY, "kvCacheBytes holds ", s.blocks,
            " blocks, of which maxBatchSize ", options.max_batch_size, " and prefillChunk ", options.prefill_chunk,
            " take ", s.scratch_blocks, " as scratch; raise kvCacheBytes or lower the other two");
  const double d = c.hidden_size;
  const double layer = d * (c.qkv_size() + c.query_size() + 3.0 * c.intermediate_size);
  s.block_cost = layer * c.body_layers();
  s.boundary_cost = layer * (c.layers_before() + c.layers_after()) + d * c.vocab_size;
  return s;
}

}  // namespace

struct Engine::State {
  const Model& model;
  KvCache cache;
  Scheduler scheduler;
  Runner runner;
  int64_t steps = 0;
  uint64_t weights_version;

  State(const Model& m, const EngineOptions& options)
      : model(m),
        cache(m, options.block_size, cache_bytes(m, options)),
        scheduler(scheduler_config(m, cache, options)),
        runner(m, cache, scheduler.stream_rows()),
        weights_version(m.weights_version()) {}
};

Engine::Engine(const Model& model, const EngineOptions& options)
    : state_(std::make_unique<State>(model, checked(options))) {}
Engine::~Engine() = default;

void Engine::submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params) {
  const ModelConfig& config = state_->model.config();
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

  Request r;
  r.id = request;
  r.prompt = std::move(prompt);
  r.max_tokens = std::min(params.max_tokens, context - length);
  r.priority = params.priority;
  for (const int32_t token : params.stop)
    if (token >= 0 && token < config.vocab_size) r.stop.push_back(token);
  r.score_threshold = score_threshold(params.router_threshold);
  r.max_recursions = routing_rules(config).passes(params.max_recursions);
  r.temperature = static_cast<float>(params.temperature);
  r.top_k = params.top_k;
  r.top_p = static_cast<float>(params.top_p);
  r.min_p = static_cast<float>(params.min_p);
  r.seed = params.seed;
  r.min_tokens = params.min_tokens;
  r.logit_bias = params.logit_bias;
  r.repetition_penalty = static_cast<float>(params.repetition_penalty);
  r.presence_penalty = static_cast<float>(params.presence_penalty);
  r.frequency_penalty = static_cast<float>(params.frequency_penalty);
  r.logprobs = params.logprobs;
  r.top_logprobs = params.top_logprobs;
  r.prompt_logprobs = params.prompt_logprobs;
  MOR_CHECK(r.min_tokens == 0 ||
                std::set<int32_t>(r.stop.begin(), r.stop.end()).size() < static_cast<size_t>(config.vocab_size),
            INVALID_ARGUMENT, "a request cannot have minTokens ", r.min_tokens, " and stop at all ", config.vocab_size,
            " tokens of the vocabulary, because then no token may come first");
  state_->scheduler.submit(std::move(r));
}

void Engine::abort(uint64_t request) {
  state_->scheduler.abort(request);
}

bool Engine::step(std::vector<RequestEvent>& events) {
  Scheduler& scheduler = state_->scheduler;
  Runner& runner = state_->runner;
  try {
    scheduler.begin_step(events);
    if (!scheduler.unfinished()) return false;
    ++state_->steps;
    if (const uint64_t version = state_->model.weights_version(); version != state_->weights_version) {
      scheduler.forget_prefixes();
      state_->weights_version = version;
    }
    // While the device works, the scheduler does what does not depend on the outcome.
    const auto run = [&](void (Runner::*launch)(const StagePlan&), const StagePlan& plan) -> const StageOutcome& {
      (runner.*launch)(plan);
      scheduler.prepare();
      return runner.collect();
    };
    if (const StagePlan* plan = scheduler.plan_entry()) scheduler.commit_entry(run(&Runner::launch_entry, *plan));
    if (const StagePlan* plan = scheduler.plan_block()) scheduler.commit_block(run(&Runner::launch_block, *plan));
    if (const StagePlan* plan = scheduler.plan_exit()) scheduler.commit_exit(run(&Runner::launch_exit, *plan), events);
  } catch (const Error& error) {
    scheduler.fail_running(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    scheduler.fail_running(ErrorCode::OUT_OF_MEMORY, "the host has no memory left");
  }
  try {
    scheduler.begin_step(events);
  } catch (const std::bad_alloc&) {
    // The remaining ends are reported in a later step.
  }
  return scheduler.unfinished();
}

EngineStats Engine::stats() const {
  EngineStats stats{state_->scheduler.stats()};
  const KvCache& cache = state_->cache;
  stats.steps = state_->steps;
  stats.kv_bytes_total = static_cast<size_t>(stats.kv_blocks_total) * cache.block_bytes();
  stats.kv_bytes_used = static_cast<size_t>(stats.kv_blocks_used) * cache.block_bytes();
  stats.kv_bytes_vanilla =
      KvCache::vanilla_bytes(state_->model.config(), state_->model.ops().compute_dtype(), stats.running_tokens);
  return stats;
}

}  // namespace mor
