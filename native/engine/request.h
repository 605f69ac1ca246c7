// Request: what a request asks for, and what is reported of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/token_logprob.h"

namespace mor {

enum class FinishReason : uint8_t { stop, length, abort, error };

struct RequestEvent {
  /// prompt: the next token of the prompt, from the second on; all of them come before the first generated one. A
  /// finish with the reason stop says the stop token as if it were a generated one.
  enum class Kind : uint8_t { token, prompt, finish } kind = Kind::token;
  uint64_t request = 0;
  int32_t token = 0;
  int32_t depth = 0;  ///< RoutingRules::depth of the token that this one follows
  float logprob = 0;  ///< log-probability at temperature 1; 0 if not asked for
  /// The most likely tokens in its place (Ops::sample): as many as asked for, or fewer if the vocabulary has no more.
  std::vector<TokenLogprob> top_logprobs{};
  /// Of the first generated token: seconds since the request began to run. Else negative.
  double prefill_seconds = -1;
  FinishReason reason = FinishReason::stop;  ///< finish only
  ErrorCode code = ErrorCode::INTERNAL;      ///< finish with error only
  std::string message{};                     ///< finish with error only
};

/// What is added to the logit of a token.
struct TokenBias {
  int32_t token = 0;
  float bias = 0;
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
  std::vector<int32_t> stop;      ///< ids that end the sequence; the id itself comes with the finish
  int32_t min_tokens = 0;         ///< before it, no id of `stop` is drawn
  double router_threshold = 0.5;  ///< docs/model.md section 3
  int32_t max_recursions = 0;     ///< 0: all
  bool logprobs = false;
  int32_t top_logprobs = 0;  ///< how many of the most likely tokens to report for each token, at most kMostTopLogprobs
  /// As top_logprobs, for each token of the prompt from prompt_logprobs_from on; -1: the prompt is not reported. What
  /// comes before the first reported token may be found in the prefix cache.
  int32_t prompt_logprobs = -1;
  int32_t prompt_logprobs_from = 1;  ///< from 1 (the first token follows none) to the last token of the prompt
};

/// A request that the engine has checked: max_tokens fit into the context, max_recursions is one of
/// RoutingRules::passes, and the ids of `stop` are of the vocabulary.
struct Request : GenerateParams {
  uint64_t id = 0;
  std::vector<int32_t> prompt;
  double score_threshold = 0;  ///< of router_threshold, for expert choice (RoutingRules::least_score)

  /// Tokens of the prompt are reported from the logits of its rows [first_scored_row(), scored_rows()): of all but the
  /// last, unless they begin later.
  int32_t first_scored_row() const { return prompt_logprobs_from - 1; }
  int32_t scored_rows() const { return prompt_logprobs < 0 ? 0 : static_cast<int32_t>(prompt.size()) - 1; }
};

}  // namespace mor
