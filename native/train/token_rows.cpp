// TokenRows: shapes, counts and checks.
#include "train/token_rows.h"

#include <algorithm>

namespace mor {

std::vector<Batch> batches_of(const TokenRows& rows) {
  std::vector<Batch> batches;
  const uint8_t* counts = rows.counts;
  for (const BatchShape& shape : rows.micro_batches) {
    Batch batch{shape.sequences, shape.length, nullptr, nullptr};
    batch.target_count = int64_t{shape.sequences} * shape.length;
    if (counts != nullptr) {
      batch.target_count = 0;
      for (int32_t s = 0; s < shape.sequences; ++s, counts += shape.length + 1)
        batch.target_count += std::count_if(counts + 1, counts + shape.length + 1, [](uint8_t c) { return c != 0; });
    }
    batches.push_back(batch);
  }
  return batches;
}

Totals totals_of(const std::vector<Batch>& batches) {
  Totals totals;
  for (const Batch& batch : batches) {
    totals.tokens += tokens_of(batch);
    totals.targets += batch.target_count;
  }
  return totals;
}

std::string sizes_of(const std::vector<Batch>& batches) {
  const Batch& first = batches[0];
  const bool equal = std::all_of(batches.begin(), batches.end(), [&](const Batch& batch) {
    return batch.sequences == first.sequences && batch.length == first.length;
  });
  if (equal) return concat(batches.size(), " x ", first.sequences, " rows of ", first.length, " tokens");
  return concat(batches.size(), " micro-batches of together ", totals_of(batches).tokens, " tokens");
}

void check_rows(const ModelConfig& config, const TokenRows& rows, const std::vector<Batch>& batches) {
  MOR_CHECK(!batches.empty(), INVALID_ARGUMENT, "there are no rows");
  const int32_t* tokens = rows.tokens;
  for (const Batch& batch : batches) {
    MOR_CHECK(batch.sequences >= 1 && batch.length >= 1, INVALID_ARGUMENT,
              "a micro-batch needs at least one token: got ", batch.sequences, " rows of ", batch.length, " tokens");
    check_tokens(config, tokens, batch.sequences, batch.length + 1, batch.length);
    tokens += batch.sequences * (int64_t{batch.length} + 1);
  }
}

void check_targets(const Totals& totals) {
  MOR_CHECK(
      totals.targets > 0, INVALID_ARGUMENT,
      "no target counts, so there is no loss; let the loss mask be true somewhere behind the first token of a row");
}

void check_tokens(const ModelConfig& config, const int32_t* tokens, int64_t rows, int64_t row_length,
                  int64_t context_length) {
  MOR_CHECK(context_length <= config.max_position_embeddings, CONTEXT_OVERFLOW, "rows of ", context_length,
            " tokens do not fit the context of ", config.max_position_embeddings);
  for (int64_t i = 0; i < rows * row_length; ++i)
    MOR_CHECK(tokens[i] >= 0 && tokens[i] < config.vocab_size, TOKEN_OUT_OF_RANGE, "token ", tokens[i], " at row ",
              i / row_length, ", place ", i % row_length, " is outside the vocabulary of ", config.vocab_size);
}

std::vector<int32_t> ids_and_targets(const TokenRows& rows, const std::vector<Batch>& batches) {
  std::vector<int32_t> host;
  host.reserve(2 * static_cast<size_t>(totals_of(batches).tokens));
  int64_t first = 0;  // id of a micro-batch
  for (const Batch& batch : batches) {
    const int64_t columns = int64_t{batch.length} + 1;
    for (const int64_t ahead : {0, 1})  // the tokens, then their targets
      for (int64_t s = 0; s < batch.sequences; ++s)
        for (int64_t i = first + s * columns + ahead; i < first + s * columns + ahead + batch.length; ++i)
          host.push_back(ahead == 1 && rows.counts != nullptr && rows.counts[i] == 0 ? -1 : rows.tokens[i]);
    first += batch.sequences * columns;
  }
  return host;
}

}  // namespace mor
