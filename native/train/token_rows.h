// TokenRows: what a step or an evaluation is given, checked and counted.
#pragma once

#include <string>
#include <vector>

#include "model/model_passes.h"

namespace mor {

/// Rows of one length, which run together.
struct BatchShape {
  int32_t sequences = 0, length = 0;
};
/// Token rows in host memory: those of the first micro-batch, then those of the next. A row has length + 1 ids, of
/// which the last `length` are targets.
struct TokenRows {
  const int32_t* tokens = nullptr;
  const uint8_t* counts = nullptr;  ///< for each id, whether it counts as a target; null: all of them do
  std::vector<BatchShape> micro_batches;
};

/// Batches of the shapes of the rows, whose targets are counted; without ids.
std::vector<Batch> batches_of(const TokenRows& rows);

inline int64_t tokens_of(const Batch& batch) {
  return int64_t{batch.sequences} * batch.length;
}

struct Totals {
  int64_t tokens = 0, targets = 0;
};
inline double share(int64_t part, int64_t all) {
  return static_cast<double>(part) / static_cast<double>(all);
}
Totals totals_of(const std::vector<Batch>& batches);

/// How many rows of which length, for messages.
std::string sizes_of(const std::vector<Batch>& batches);

/// Throws INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE or CONTEXT_OVERFLOW. batches: those of the rows.
void check_rows(const ModelConfig& config, const TokenRows& rows, const std::vector<Batch>& batches);
/// Throws INVALID_ARGUMENT if there is no target.
void check_targets(const Totals& totals);
/// Throws TOKEN_OUT_OF_RANGE or CONTEXT_OVERFLOW naming the row, the place and both values.
void check_tokens(const ModelConfig& config, const int32_t* tokens, int64_t rows, int64_t row_length,
                  int64_t context_length);

/// The ids of every batch and behind them its targets, of which those that do not count are -1: [2 * tokens].
std::vector<int32_t> ids_and_targets(const TokenRows& rows, const std::vector<Batch>& batches);

}  // namespace mor
