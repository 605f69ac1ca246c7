// What engine tests share: requests, their results, and an oracle that recomputes everything for every token.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "engine/engine.h"
#include "test/model/support.h"

namespace mor::test {

struct Generated {
  std::vector<int32_t> tokens, depths;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top_logprobs;
  std::vector<RequestEvent> prompt;  ///< of kind prompt
  RequestEvent end;                  ///< of kind finish
  bool finished = false;
  FinishReason reason = FinishReason::error;
  ErrorCode code = ErrorCode::INTERNAL;  ///< of an error
  std::string message;
};

struct Wanted {
  std::vector<int32_t> prompt;
  GenerateParams params;
};

/// A router with the activation that suits its type: softmax for token choice, whose depths compete for a token,
/// sigmoid for expert choice.
inline void set_router(ModelConfig& config, RouterType type) {
  config.router.type = type;
  config.router.activation = type == RouterType::token_choice ? Activation::softmax : Activation::sigmoid;
}

inline void collect(const std::vector<RequestEvent>& events, std::map<uint64_t, Generated>& results) {
  for (const RequestEvent& event : events) {
    Generated& g = results[event.request];
    ASSERT_FALSE(g.finished) << "an event of request " << event.request << " after its end";
    if (event.kind == RequestEvent::Kind::finish) {
      g.finished = true;
      g.end = event;
      g.reason = event.reason;
      g.code = event.code;
      g.message = event.message;
      continue;
    }
    if (event.kind == RequestEvent::Kind::prompt) {
      EXPECT_TRUE(g.tokens.empty()) << "a token of the prompt after a generated one";
      g.prompt.push_back(event);
      continue;
    }
    g.tokens.push_back(event.token);
    g.depths.push_back(event.depth);
    g.logprobs.push_back(event.logprob);
    g.top_logprobs.push_back(event.top_logprobs);
  }
}

/// Runs requests 0, 1, … until they end; request i is submitted before step i * apart.
inline std::map<uint64_t, Generated> run_engine(Engine& engine, const std::vector<Wanted>& wanted, size_t apart = 0) {
  std::map<uint64_t, Generated> results;
  size_t submitted = 0;
  bool unfinished = true;
  for (size_t step = 0; unfinished || submitted < wanted.size(); ++step) {
    for (; submitted < wanted.size() && submitted * apart <= step; ++submitted)
      engine.submit(submitted, wanted[submitted].prompt, wanted[submitted].params);
    std::vector<RequestEvent> events;
    unfinished = engine.step(events);
    collect(events, results);
    if (step > 100000) {
      ADD_FAILURE() << "the engine does not come to an end";
      break;
    }
  }
  return results;
}

/// What a request makes of the logits before `generated` tokens are followed by the next one, from its definition: for
/// every token of the vocabulary, whether it is in the prompt and how often it is in the output.
inline std::vector<float> penalised(const Wanted& wanted, const std::vector<int32_t>& generated,
                                    std::vector<float> logits) {
  const GenerateParams& p = wanted.params;
  for (size_t id = 0; id < logits.size(); ++id) {
    const auto token = static_cast<int32_t>(id);
    double l = double{logits[id]};
    for (const TokenBias& bias : p.logit_bias)
      if (bias.token == token) l += double{bias.bias};
    const auto count = std::count(generated.begin(), generated.end(), token);
    if (count > 0 || std::count(wanted.prompt.begin(), wanted.prompt.end(), token) > 0)
      l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
    l -= p.frequency_penalty * static_cast<double>(count) + (count > 0 ? p.presence_penalty : 0);
    const bool stops = std::count(p.stop.begin(), p.stop.end(), token) > 0;
    if (stops && static_cast<int32_t>(generated.size()) < p.min_tokens) l = -std::numeric_limits<double>::infinity();
    logits[id] = static_cast<float>(l);
  }
  return logits;
}

/// Expects of a token of the prompt, or a generated one, its log-probability and that its list holds the most likely
/// tokens (of two that are nearly equal either may come first), computed from the logits in double.
inline void expect_logprobs(const std::vector<float>& logits, int32_t token, float logprob,
                            const std::vector<TokenLogprob>& listed, int32_t wanted, double tolerance) {
  double most = double{logits[0]}, sum = 0;
  for (const float logit : logits) most = std::max(most, double{logit});
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  const auto logprob_of = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]} - most - std::log(sum); };
  EXPECT_NEAR(double{logprob}, logprob_of(token), tolerance);
  std::vector<float> falling = logits;
  std::sort(falling.begin(), falling.end(), std::greater<>());
  ASSERT_EQ(listed.size(), std::min(static_cast<size_t>(wanted), logits.size()));
  for (size_t i = 0; i < listed.size(); ++i) {
    EXPECT_NEAR(double{listed[i].logprob}, logprob_of(listed[i].token), tolerance);
    EXPECT_NEAR(logits[static_cast<size_t>(listed[i].token)], falling[i], tolerance);
  }
}

/// Expects at every position what a full forward over prompt and generated tokens gives (threshold routing, no cache):
/// the token that the request's sampling draws from its logits, the depth, the log-probability, and the most likely
/// tokens with theirs; and the same of every token of the prompt where it is reported.
inline void expect_full_forward_agrees(const Model& model, const Wanted& wanted, const Generated& generated,
                                       double tolerance) {
  std::vector<int32_t> tokens = wanted.prompt;
  tokens.insert(tokens.end(), generated.tokens.begin(), generated.tokens.end());
  Ops& ops = model.ops();
  Arena arena(ops), inputs(ops);
  int32_t* device = inputs.array<int32_t>(static_cast<int64_t>(tokens.size()));
  ops.copy_to_device(device, tokens.data(), tokens.size() * sizeof(int32_t));
  Batch batch;
  batch.sequences = 1;
  batch.length = static_cast<int32_t>(tokens.size());
  batch.tokens = device;
  PassOptions options;
  options.routing = Routing::threshold;
  options.router_threshold = wanted.params.router_threshold;
  options.max_recursions = wanted.params.max_recursions;
  const size_t vocab = static_cast<size_t>(model.config().vocab_size);
  const FullLogits full = full_logits(model, arena, batch, options);
  const std::vector<float>& logits = full.logits;
  const std::vector<uint8_t>& depths = full.depths;

  const auto logits_at = [&](size_t position) {
    const auto begin = logits.begin() + static_cast<int64_t>(position * vocab);
    return std::vector<float>(begin, begin + static_cast<int64_t>(vocab));
  };
  const GenerateParams& p = wanted.params;
  const size_t first = static_cast<size_t>(p.prompt_logprobs_from) - 1;
  ASSERT_EQ(generated.prompt.size(), p.prompt_logprobs < 0 ? 0 : wanted.prompt.size() - 1 - first);
  for (size_t i = first; i < first + generated.prompt.size(); ++i) {
    SCOPED_TRACE(concat("token ", i + 1, " of the prompt"));
    const RequestEvent& event = generated.prompt[i - first];
    EXPECT_EQ(event.token, wanted.prompt[i + 1]);
    EXPECT_EQ(event.depth, depths[i]);
    expect_logprobs(logits_at(i), event.token, event.logprob, event.top_logprobs, p.prompt_logprobs, tolerance);
  }
  const Tensor row = inputs.tensor(ops.master_dtype(), 1, static_cast<int64_t>(vocab), "logits");
  for (size_t t = 0; t < generated.tokens.size(); ++t) {
    SCOPED_TRACE(concat("token ", t));
    const size_t position = wanted.prompt.size() - 1 + t;
    const std::vector<float> own = logits_at(position);
    const std::vector<int32_t> before(generated.tokens.begin(), generated.tokens.begin() + static_cast<int64_t>(t));
    const SamplingParams sampling{.temperature = static_cast<float>(p.temperature),
                                  .top_k = p.top_k,
                                  .top_p = static_cast<float>(p.top_p),
                                  .min_p = static_cast<float>(p.min_p),
                                  .seed = p.seed,
                                  .counter = t};
    int32_t token = -1;
    upload(ops, penalised(wanted, before, own).data(), row);
    ops.sample(row, &sampling, &token, nullptr, nullptr);
    EXPECT_EQ(generated.tokens[t], token);
    EXPECT_EQ(generated.depths[t], depths[position]);
    expect_logprobs(own, token, generated.logprobs[t], generated.top_logprobs[t], p.top_logprobs, tolerance);
  }
}

/// Lists of most likely tokens as pairs, which can be compared and printed.
inline std::vector<std::vector<std::pair<int32_t, float>>> plain(const std::vector<std::vector<TokenLogprob>>& lists) {
  std::vector<std::vector<std::pair<int32_t, float>>> pairs(lists.size());
  for (size_t i = 0; i < lists.size(); ++i)
    for (const TokenLogprob& listed : lists[i]) pairs[i].emplace_back(listed.token, listed.logprob);
  return pairs;
}

inline void expect_same_bits(const Generated& actual, const Generated& expected) {
  EXPECT_TRUE(actual.finished);
  EXPECT_EQ(actual.reason, expected.reason) << actual.message;
  EXPECT_EQ(actual.tokens, expected.tokens);
  EXPECT_EQ(actual.depths, expected.depths);
  EXPECT_EQ(actual.logprobs, expected.logprobs);
  EXPECT_EQ(plain(actual.top_logprobs), plain(expected.top_logprobs));
  ASSERT_EQ(actual.prompt.size(), expected.prompt.size());
  for (size_t i = 0; i < actual.prompt.size(); ++i) {
    EXPECT_EQ(actual.prompt[i].token, expected.prompt[i].token);
    EXPECT_EQ(actual.prompt[i].depth, expected.prompt[i].depth);
    EXPECT_EQ(actual.prompt[i].logprob, expected.prompt[i].logprob);
    EXPECT_EQ(plain({actual.prompt[i].top_logprobs}), plain({expected.prompt[i].top_logprobs}));
  }
}

/// Prompts of different lengths, some with fewer recursions or another threshold, greedy and sampled in turn, and from
/// none to all of the lists of most likely tokens.
inline std::vector<Wanted> mixed_requests(const ModelConfig& config, int32_t count, int32_t longest, uint32_t seed) {
  std::vector<Wanted> wanted;
  for (int32_t i = 0; i < count; ++i) {
    Wanted w;
    w.prompt = random_tokens(1 + (i * 7 + 3) % longest, config.vocab_size, seed + static_cast<uint32_t>(i));
    w.params.max_tokens = 3 + i * 5 % 11;
    w.params.logprobs = true;
    w.params.top_logprobs = i * 5 % (kMostTopLogprobs + 1);
    w.params.prompt_logprobs = i % 3 == 1 ? i % 7 : -1;
    w.params.router_threshold = i % 4 == 3 ? 0.45 : 0.5;
    w.params.max_recursions = i % 3 == 2 ? std::max(1, config.num_recursions - 1) : 0;
    w.params.seed = static_cast<uint64_t>(i) * 77 + 5;
    if (i % 2 == 0) {
      w.params.temperature = 1 + 0.5 * i;
      w.params.top_k = i % 3 == 0 ? 20 : 0;
      w.params.top_p = i % 4 == 0 ? 0.9 : 1;
      w.params.min_p = i % 8 == 6 ? 0.02 : 0;
    }
    if (i % 5 < 2) {
      w.params.presence_penalty = i % 2 == 0 ? 0.8 : 0;
      w.params.frequency_penalty = i % 5 == 0 ? 0.6 : -0.1;
      w.params.repetition_penalty = i % 3 == 0 ? 1 : 1.25;
    }
    if (i % 4 == 1)
      w.params.logit_bias = {{i % config.vocab_size, 2.5f}, {w.prompt[0], -3}, {(i + 1) % config.vocab_size, 1}};
    wanted.push_back(w);
  }
  return wanted;
}

}  // namespace mor::test
