// Tests of what the engine promises about single requests: how they end, aborts, refusals, statistics.
#include <limits>

#include "test/engine/support.h"

namespace mor::test {
namespace {

/// An expert-choice model of three recursions.
class Requests : public testing::Test {
 protected:
  Requests() : model(config(), std::make_unique<RefOps<float>>()) { model.init(3); }
  static ModelConfig config() {
    ModelConfig c = tiny_config();
    c.num_hidden_layers = 5;
    c.num_recursions = 3;
    c.router.type = RouterType::expert_choice;
    c.max_position_embeddings = 32;
    return c;
  }
  static Wanted greedy(int32_t prompt, int32_t max_tokens) {
    Wanted w;
    w.prompt = random_tokens(prompt, 11, 5);
    w.params.max_tokens = max_tokens;
    return w;
  }
  Model model;
};

TEST_F(Requests, StopsAtAStopTokenWithoutReportingIt) {
  Wanted w = greedy(4, 20);
  w.params.temperature = 3;
  w.params.seed = 9;
  Engine engine(model, {});
  const Generated all = run_engine(engine, {w}).at(0);
  ASSERT_EQ(all.tokens.size(), 20u);
  EXPECT_EQ(all.reason, FinishReason::length);
  for (size_t at = 0; at < all.tokens.size(); ++at) {
    w.params.stop = {99, all.tokens[at]};
    const size_t first =
        static_cast<size_t>(std::find(all.tokens.begin(), all.tokens.end(), all.tokens[at]) - all.tokens.begin());
    const Generated stopped = run_engine(engine, {w}).at(0);
    EXPECT_EQ(stopped.reason, FinishReason::stop);
    EXPECT_EQ(stopped.tokens,
              std::vector<int32_t>(all.tokens.begin(), all.tokens.begin() + static_cast<int64_t>(first)));
  }
}

TEST_F(Requests, SaysOfTheStopTokenWhatItSaysOfOthers) {
  Wanted w = greedy(4, 8);
  w.params.logprobs = true;
  w.params.top_logprobs = 3;
  Engine engine(model, {});
  const Generated all = run_engine(engine, {w}).at(0);
  ASSERT_EQ(all.reason, FinishReason::length);
  for (const int32_t token : all.tokens) {
    w.params.stop = {token};
    const auto first = static_cast<size_t>(std::find(all.tokens.begin(), all.tokens.end(), token) - all.tokens.begin());
    const RequestEvent end = run_engine(engine, {w}).at(0).end;
    EXPECT_EQ(end.token, token);
    EXPECT_EQ(end.depth, all.depths[first]);
    EXPECT_EQ(end.logprob, all.logprobs[first]);
    ASSERT_EQ(end.top_logprobs.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(end.top_logprobs[i].token, all.top_logprobs[first][i].token);
      EXPECT_EQ(end.top_logprobs[i].logprob, all.top_logprobs[first][i].logprob);
    }
  }
}

TEST_F(Requests, StopsNotBeforeItsLeastNumberOfTokens) {
  Wanted w = greedy(4, 20);
  w.params.temperature = 3;
  w.params.seed = 9;
  w.params.logprobs = true;
  w.params.stop = {2, 99, 3, 2, 4, 5};
  w.params.logit_bias = {{3, 1.5f}, {0, -1}};
  int stopped = 0;
  for (const int32_t least : {0, 1, 4, 7, 20}) {
    SCOPED_TRACE(concat("at least ", least));
    w.params.min_tokens = least;
    Engine engine(model, {});
    const Generated g = run_engine(engine, {w}).at(0);
    EXPECT_GE(g.tokens.size(), static_cast<size_t>(least));
    for (const int32_t token : g.tokens) EXPECT_TRUE(token < 2 || token > 5) << token;
    if (!g.tokens.empty()) expect_full_forward_agrees(model, w, g, 1e-5);
    stopped += g.reason == FinishReason::stop ? 1 : 0;
  }
  EXPECT_GE(stopped, 2);
}

TEST_F(Requests, PenaltiesCountPromptAndOutputAsTheyAreDefined) {
  std::vector<Wanted> wanted;
  for (int i = 0; i < 4; ++i) {
    wanted.push_back(greedy(12, 18));
    wanted.back().params.logprobs = true;
    wanted.back().params.temperature = i % 2 == 0 ? 0 : 1.2;
  }
  wanted[0].params.presence_penalty = 1.5;
  wanted[1].params.frequency_penalty = 0.5;
  wanted[2].params.repetition_penalty = 3;
  wanted[3].params.logit_bias = {{7, 3}, {2, -2}};
  Engine engine(model, {});
  const auto results = run_engine(engine, wanted);
  const Generated plain = run_engine(engine, {greedy(12, 18)}).at(0);
  for (size_t i = 0; i < wanted.size(); ++i) {
    SCOPED_TRACE(concat("request ", i));
    EXPECT_NE(results.at(i).tokens, plain.tokens);
    expect_full_forward_agrees(model, wanted[i], results.at(i), 1e-5);
  }
}

/// More rows than are computed at a time, beside requests that are only sampled from.
TEST_F(Requests, ReportsTheTokensOfThePrompt) {
  std::vector<Wanted> wanted;
  for (int32_t i = 0; i < 8; ++i) {
    wanted.push_back(greedy(28 - i % 3, i % 4));
    wanted.back().params.logprobs = true;
    wanted.back().params.prompt_logprobs = i % 5;
  }
  wanted.push_back(greedy(1, 0));
  wanted.back().params.prompt_logprobs = 0;
  wanted.push_back(greedy(30, 2));
  wanted.back().params.logprobs = true;
  const bool prefixes[] = {true, false};
  for (const bool prefix_cache : prefixes) {
    EngineOptions options;
    options.prefix_cache = prefix_cache;
    options.kv_cache_bytes = 1 << 20;
    Engine engine(model, options);
    for (int round = 0; round < 3; ++round) {
      SCOPED_TRACE(concat("round ", round));
      const int64_t hits = engine.stats().prefix_hit_tokens;
      const auto results = run_engine(engine, wanted);
      for (size_t i = 0; i < wanted.size(); ++i) {
        SCOPED_TRACE(concat("request ", i));
        EXPECT_EQ(results.at(i).reason, FinishReason::length) << results.at(i).message;
        EXPECT_EQ(results.at(i).tokens.size(), static_cast<size_t>(wanted[i].params.max_tokens));
        expect_full_forward_agrees(model, wanted[i], results.at(i), 1e-5);
      }
      // Only the last request may find its beginning.
      EXPECT_EQ(engine.stats().prefix_hit_tokens - hits, prefix_cache && round > 0 ? 24 : 0);
    }
    EXPECT_EQ(engine.stats().kv_blocks_used, 0);
  }
}

TEST_F(Requests, FindsWhatComesBeforeTheFirstReportedTokenInThePrefixCache) {
  EngineOptions options;
  options.kv_cache_bytes = 1 << 20;
  Engine engine(model, options);
  struct Case {
    int32_t from;
    int64_t hits;  ///< chunks of 8 tokens that end before the row of the first reported token
  };
  for (const Case& c : {Case{20, 0}, Case{20, 16}, Case{27, 24}, Case{1, 0}}) {
    SCOPED_TRACE(concat("from ", c.from));
    Wanted w = greedy(28, c.from % 2);
    w.params.prompt_logprobs = 1;
    w.params.prompt_logprobs_from = c.from;
    w.params.logprobs = true;
    const int64_t hits = engine.stats().prefix_hit_tokens;
    expect_full_forward_agrees(model, w, run_engine(engine, {w}).at(0), 1e-5);
    EXPECT_EQ(engine.stats().prefix_hit_tokens - hits, c.hits);
  }
}

TEST_F(Requests, EndsWhereTheContextEnds) {
  Engine engine(model, {});
  const Generated g = run_engine(engine, {greedy(30, 1000)}).at(0);
  EXPECT_EQ(g.reason, FinishReason::length);
  EXPECT_EQ(g.tokens.size(), 2u);
}

TEST_F(Requests, LogprobsOnlyWhereAskedFor) {
  Wanted with = greedy(4, 5), without = with;
  with.params.logprobs = true;
  Engine engine(model, {});
  const auto results = run_engine(engine, {with, without});
  EXPECT_EQ(results.at(0).tokens, results.at(1).tokens);
  for (const float logprob : results.at(0).logprobs) EXPECT_LT(logprob, 0);
  for (const float logprob : results.at(1).logprobs) EXPECT_EQ(logprob, 0);
}

/// The requests of one batch ask for different numbers of most likely tokens, and the logits of one are not finite.
TEST_F(Requests, TopLogprobsAreThoseOfTheRequestAlone) {
  std::vector<float> embedding(static_cast<size_t>(model.parameters().list()[0].count()));
  model.get(0, embedding.data());
  const size_t width = static_cast<size_t>(model.config().hidden_size), broken = 10;
  for (size_t j = 0; j < width; ++j) embedding[broken * width + j] = std::numeric_limits<float>::quiet_NaN();
  model.set(0, embedding.data());
  std::vector<Wanted> wanted;
  for (const int32_t listed : {0, 3, 20, 1, 3}) {
    wanted.push_back(greedy(4, 5));
    wanted.back().params.top_logprobs = listed;
    wanted.back().params.logprobs = listed != 20;
    std::replace(wanted.back().prompt.begin(), wanted.back().prompt.end(), static_cast<int32_t>(broken), 0);
  }
  Wanted bad = greedy(4, 5);
  bad.prompt.back() = static_cast<int32_t>(broken);
  bad.params.top_logprobs = 2;
  std::vector<Wanted> all = wanted;
  all.insert(all.begin() + 2, bad);
  Engine engine(model, {});
  std::map<uint64_t, Generated> results = run_engine(engine, all);
  EXPECT_EQ(results.at(2).reason, FinishReason::error);
  EXPECT_TRUE(results.at(2).top_logprobs.empty());
  for (size_t i = 0; i < wanted.size(); ++i) {
    SCOPED_TRACE(concat("request ", i));
    const Generated& g = results.at(i < 2 ? i : i + 1);
    Engine alone(model, {});
    expect_same_bits(g, run_engine(alone, {wanted[i]}).at(0));
    for (size_t t = 0; t < g.tokens.size(); ++t) {
      // Ten of the eleven tokens: with tied embeddings the broken one has no logit.
      ASSERT_EQ(g.top_logprobs[t].size(), static_cast<size_t>(std::min(wanted[i].params.top_logprobs, 10)));
      if (g.top_logprobs[t].empty()) continue;
      EXPECT_EQ(g.top_logprobs[t][0].token, g.tokens[t]) << "greedy";
      EXPECT_EQ(g.logprobs[t], wanted[i].params.logprobs ? g.top_logprobs[t][0].logprob : 0);
    }
  }
}

TEST_F(Requests, AbortTakesEffectWithinAStepAtAnyMoment) {
  for (int32_t before = 0; before < 14; ++before) {
    SCOPED_TRACE(concat("after ", before, " steps"));
    EngineOptions options;
    options.prefill_chunk = 2;  // so that the first steps are in the prompt
    Engine engine(model, options);
    const Wanted w = greedy(9, 20);
    engine.submit(7, w.prompt, w.params);
    engine.submit(8, w.prompt, w.params);
    std::vector<RequestEvent> events;
    for (int32_t i = 0; i < before; ++i) engine.step(events);
    engine.abort(7);
    engine.abort(1234);
    events.clear();
    engine.step(events);
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events[0].request, 7u);
    EXPECT_EQ(events[0].kind, RequestEvent::Kind::finish);
    EXPECT_EQ(events[0].reason, FinishReason::abort);
    while (engine.step(events)) engine.abort(7);
    for (size_t i = 1; i < events.size(); ++i) EXPECT_EQ(events[i].request, 8u);
    EXPECT_EQ(events.back().reason, FinishReason::length);
    EXPECT_EQ(engine.stats().kv_blocks_used, 0);
    EXPECT_EQ(engine.stats().finished, 2);
  }
}

TEST_F(Requests, FewerRecursionsAndAHigherThresholdMeanLessDepth) {
  Wanted all = greedy(6, 20), limited = all, never = all;
  all.params.router_threshold = 0;
  limited.params.router_threshold = 0;
  limited.params.max_recursions = 2;
  never.params.router_threshold = 1;
  Engine engine(model, {});
  const auto results = run_engine(engine, {all, limited, never});
  EXPECT_EQ(results.at(0).depths, std::vector<int32_t>(20, 3));
  EXPECT_EQ(results.at(1).depths, std::vector<int32_t>(20, 2));
  EXPECT_EQ(results.at(2).depths, std::vector<int32_t>(20, 1));
  // Of each request the six prompt tokens and all generated ones but the last, which does not run.
  EXPECT_EQ(engine.stats().depth_histogram, (std::vector<int64_t>{25, 25, 25}));
}

TEST_F(Requests, WithoutABlockThatRecursEveryTokenHasDepthN) {
  ModelConfig sequence = tiny_config();
  sequence.num_hidden_layers = 6;
  sequence.num_recursions = 2;
  sequence.sharing = Sharing::sequence;
  Model other(sequence, std::make_unique<RefOps<float>>());
  other.init(3);
  Engine engine(other, {});
  EXPECT_EQ(engine.stats().depth_histogram, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(run_engine(engine, {greedy(4, 5)}).at(0).depths, std::vector<int32_t>(5, 2));
  EXPECT_EQ(engine.stats().depth_histogram, (std::vector<int64_t>{0, 8}));
}

TEST_F(Requests, CountsWhatItDoes) {
  EngineOptions options;
  options.block_size = 4;
  Engine engine(model, options);
  Wanted w = greedy(6, 10);
  w.params.router_threshold = 1;  // every token runs one recursion of three
  engine.submit(0, w.prompt, w.params);
  std::vector<RequestEvent> events;
  EXPECT_EQ(engine.stats().waiting, 1);
  const int64_t total = engine.stats().kv_blocks_total;
  EXPECT_GT(total, 0);
  while (events.size() < 5) engine.step(events);
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.running, 1);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.tokens_generated, 5);
  EXPECT_EQ(stats.prompt_tokens, 6);
  EXPECT_GE(stats.steps, 5);
  // Ten tokens: a block is 4 tokens of the one block layer or 2 of the two layers outside. Two thirds of the block's
  // vanilla memory are saved, except for rounding.
  EXPECT_EQ(stats.kv_blocks_used, 3 + 5);
  EXPECT_EQ(stats.kv_blocks_cached, 0);
  const int64_t bytes_per_layer = 2 * 8 * 4;
  EXPECT_EQ(stats.kv_bytes_vanilla, static_cast<size_t>(10 * 5 * bytes_per_layer));
  EXPECT_EQ(stats.kv_bytes_used, static_cast<size_t>(stats.kv_blocks_used * 4 * bytes_per_layer));
  EXPECT_EQ(stats.kv_blocks_used + stats.kv_blocks_free, total);
  while (engine.step(events)) {
  }
  // Of 15 tokens, three full chunks of 4 stay in the cache.
  EXPECT_EQ(engine.stats().kv_blocks_used, 0);
  EXPECT_EQ(engine.stats().kv_blocks_cached, 3 + 6);
  EXPECT_EQ(engine.stats().kv_blocks_free, total - 9);
  EXPECT_EQ(engine.stats().finished, 1);
  EXPECT_EQ(engine.stats().running, 0);
  EXPECT_EQ(engine.stats().prefix_hit_tokens, 0);

  // The same request again finds one chunk of the 6 prompt tokens; it counts as prompt tokens, but not as computed.
  const std::vector<int64_t> ran = engine.stats().depth_histogram;
  run_engine(engine, {w});
  EXPECT_EQ(engine.stats().prefix_hit_tokens, 4);
  EXPECT_EQ(engine.stats().prompt_tokens, 12);
  EXPECT_EQ(engine.stats().depth_histogram[0], 2 * ran[0] - 4);
}

TEST_F(Requests, RefusesBadInputAndGoesOn) {
  Engine engine(model, {});
  const auto code_of = [&](const Wanted& w) {
    try {
      engine.submit(1, w.prompt, w.params);
    } catch (const Error& error) {
      EXPECT_GT(std::string(error.what()).size(), 20u);
      return std::string(error_code_name(error.code()));
    }
    return std::string("accepted");
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Wanted w = greedy(0, 5);
  EXPECT_EQ(code_of(w), "INVALID_ARGUMENT");
  EXPECT_EQ(code_of(greedy(32, 5)), "CONTEXT_OVERFLOW");
  w = greedy(3, 5);
  w.prompt[1] = 11;
  EXPECT_EQ(code_of(w), "TOKEN_OUT_OF_RANGE");
  w.prompt[1] = -1;
  EXPECT_EQ(code_of(w), "TOKEN_OUT_OF_RANGE");
  EXPECT_EQ(code_of(greedy(3, 0)), "INVALID_ARGUMENT");
  for (const int32_t bad : {-2, kMostTopLogprobs + 1}) {
    w = greedy(3, 5);
    w.params.prompt_logprobs = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "promptLogprobs " << bad;
  }
  for (const int32_t bad : {-1, 0, 3}) {
    w = greedy(3, 5);
    w.params.prompt_logprobs = 0;
    w.params.prompt_logprobs_from = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "promptLogprobsFrom " << bad;
  }
  for (const double bad : {-1.0, nan, std::numeric_limits<double>::infinity(), 1e300}) {
    w = greedy(3, 5);
    w.params.temperature = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "temperature " << bad;
  }
  for (const double bad : {0.0, -0.5, 1.1, nan, 1e-300}) {
    w = greedy(3, 5);
    w.params.top_p = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "topP " << bad;
  }
  for (const double bad : {-0.1, 1.1, nan}) {
    w = greedy(3, 5);
    w.params.router_threshold = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "routerThreshold " << bad;
  }
  const auto refused = [&](const char* what, const auto& spoil) {
    w = greedy(3, 5);
    spoil(w.params);
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << what;
  };
  for (const double bad : {-0.1, 1.1, nan}) refused("minP", [&](auto& p) { p.min_p = bad; });
  for (const double bad : {0.0, -1.0, nan, 1e300, 1e-300})
    refused("repetitionPenalty", [&](auto& p) { p.repetition_penalty = bad; });
  for (const double bad : {nan, 1e300, -1e300}) {
    refused("presencePenalty", [&](auto& p) { p.presence_penalty = bad; });
    refused("frequencyPenalty", [&](auto& p) { p.frequency_penalty = bad; });
    refused("logitBias", [&](auto& p) { p.logit_bias = {{1, static_cast<float>(bad)}}; });
  }
  refused("minTokens", [&](auto& p) { p.min_tokens = -1; });
  refused("stop at all tokens", [&](auto& p) {
    p.min_tokens = 1;
    for (int32_t token = 0; token < 11; ++token) p.stop.push_back(token);
  });
  w = greedy(3, 5);
  w.params.logit_bias = {{11, 1}};
  EXPECT_EQ(code_of(w), "TOKEN_OUT_OF_RANGE");
  w = greedy(3, 5);
  w.params.top_k = -1;
  EXPECT_EQ(code_of(w), "INVALID_ARGUMENT");
  w = greedy(3, 5);
  w.params.max_recursions = -1;
  EXPECT_EQ(code_of(w), "INVALID_ARGUMENT");
  for (const int32_t bad : {-1, kMostTopLogprobs + 1}) {
    w = greedy(3, 5);
    w.params.top_logprobs = bad;
    EXPECT_EQ(code_of(w), "INVALID_ARGUMENT") << "topLogprobs " << bad;
  }
  EXPECT_EQ(code_of(greedy(3, 5)), "accepted");
  EXPECT_EQ(code_of(greedy(3, 5)), "INVALID_ARGUMENT") << "the id is in use";
  std::vector<RequestEvent> events;
  while (engine.step(events)) {
  }
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events.back().reason, FinishReason::length);
  EXPECT_EQ(code_of(greedy(3, 5)), "accepted") << "the id is free again";
}

TEST_F(Requests, RefusesACacheThatHoldsNothing) {
  const auto message_of = [&](const EngineOptions& options) {
    try {
      Engine engine(model, options);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EngineOptions options;
  options.kv_cache_bytes = 100;
  EXPECT_NE(message_of(options).find("kvCacheBytes is 100"), std::string::npos) << message_of(options);
  options = {};
  options.max_batch_size = 0;
  EXPECT_NE(message_of(options).find("maxBatchSize must be at least 1, got 0"), std::string::npos);
}

TEST_F(Requests, TheCacheOfTheDefaultOptionsHasRoomBesideTheScratchOfSharedKeys) {
  ModelConfig config = model.config();
  config.num_hidden_layers = 6;
  config.num_recursions = 2;
  config.sharing = Sharing::cycle;
  config.kv_cache = KvCachePolicy::shared;
  for (const int32_t context : {1, 16, 4096}) {
    config.max_position_embeddings = context;
    EXPECT_NO_THROW(check_options(config, DType::float32, {})) << context;
  }
}

TEST_F(Requests, ARequestWhoseLogitsAreNotFiniteEndsAlone) {
  // The embedding of token 10 is not finite, so neither is its row nor, with tied embeddings, its logit in any row.
  std::vector<float> embedding(11 * 8);
  model.get(0, embedding.data());
  for (size_t j = 0; j < 8; ++j) embedding[10 * 8 + j] = std::numeric_limits<float>::quiet_NaN();
  model.set(0, embedding.data());
  Wanted good = greedy(3, 5), bad = good;
  good.prompt = {1, 2, 3};
  bad.prompt = {1, 10, 3};
  Engine engine(model, {});
  const auto results = run_engine(engine, {good, bad, good});
  EXPECT_EQ(results.at(0).reason, FinishReason::length);
  EXPECT_EQ(results.at(2).reason, FinishReason::length);
  EXPECT_EQ(results.at(0).tokens, results.at(2).tokens);
  EXPECT_EQ(results.at(1).reason, FinishReason::error);
  EXPECT_NE(results.at(1).message.find("finite"), std::string::npos) << results.at(1).message;

  // No prompt has log-probabilities of this model, whose softmax is not a number anywhere.
  Wanted scored = good;
  scored.params.prompt_logprobs = 2;
  const auto again = run_engine(engine, {scored, good});
  EXPECT_EQ(again.at(0).reason, FinishReason::error);
  EXPECT_TRUE(again.at(0).prompt.empty());
  EXPECT_EQ(again.at(0).message,
            "the logits of token 1 of the prompt are not finite; the model's weights or activations have overflowed or "
            "are NaN");
  EXPECT_EQ(again.at(1).tokens, results.at(0).tokens);
}

}  // namespace
}  // namespace mor::test
