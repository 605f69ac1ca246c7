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
  /// prompt: the next token of the prompt, from the second on; all of them come before the first generated one.
  enum class Kind : uint8_t { token, prompt, finish } kind = Kind::token;
  uint64_t request = 0;
  int32_t token = 0;
  int32_t depth = 0;  ///< RoutingRules::depth of the token that this one follows
  float logprob = 0;  ///< log-probability at temperature 1; 0 if not asked for
  /// The most likely tokens in its place (Ops::sample): as many as asked for, or fewer if the vocabulary has no more.
  std::vector<TokenLogprob> top_logprobs{};
  FinishReason reason = FinishReason::stop;  ///< finish only
  ErrorCode code = ErrorCode::INTERNAL;      ///< finish with error only
  std::string message{};                     ///< finish with error only
};

/// What is added to the logit of a token.
struct TokenBias {
  int32_t token = 0;
  float bias = 0;
};

/// A request, checked and with every default resolved.
struct Request {
  uint64_t id = 0;
  std::vector<int32_t> prompt;
  int32_t max_tokens = 0;      ///< 0: only the prompt runs
  int32_t priority = 0;        ///< higher goes first; equals in order of arrival
  std::vector<int32_t> stop;   ///< ids that end the sequence
  double score_threshold = 0;  ///< for expert choice (RoutingRules::least_score)
  int32_t max_recursions = 0;  ///< RoutingRules::passes
  float temperature = 0, top_p = 1, min_p = 0;
  int32_t top_k = 0;
  uint64_t seed = 0;
  int32_t min_tokens = 0;             ///< before it, no token of `stop` is drawn
  std::vector<TokenBias> logit_bias;  ///< biases of one token add up
  float repetition_penalty = 1;       ///< of tokens in the prompt or the output
  float presence_penalty = 0;         ///< of tokens in the output
  float frequency_penalty = 0;        ///< for each time that a token is in the output
  bool logprobs = false;
  int32_t top_logprobs = 0;
  int32_t prompt_logprobs = -1;  ///< as top_logprobs, for each token of the prompt; -1: the prompt is not reported

  /// Rows of the prompt from whose logits a token of the prompt is reported: all but the last.
  int32_t scored_rows() const { return prompt_logprobs < 0 ? 0 : static_cast<int32_t>(prompt.size()) - 1; }
};

}  // namespace mor
