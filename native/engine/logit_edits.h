// LogitEdits: what a request's biases and penalties make of the logits of its next token.
#pragma once

#include <vector>

#include "core/logit_edit.h"
#include "engine/request.h"

namespace mor {

/// It follows from the request and its generated tokens alone. Without biases and penalties it stays empty.
class LogitEdits {
 public:
  explicit LogitEdits(const Request& request);

  /// Counts a generated token.
  void add(int32_t token);
  /// For Ops::sample.
  const std::vector<LogitEdit>& list() const { return list_; }

 private:
  size_t place(int32_t token);

  float presence_penalty_, frequency_penalty_, repetition_penalty_;
  int32_t min_tokens_, generated_ = 0;
  std::vector<TokenBias> banned_;  ///< tokens that may not come before min_tokens, with the biases that they then get
  std::vector<LogitEdit> list_;    ///< in rising order of tokens
  std::vector<int32_t> counts_;    ///< [list_] how often each was generated
};

}  // namespace mor
