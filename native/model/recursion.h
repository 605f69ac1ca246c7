// The body of the model: the shared block applied up to N times, with or without a router, forward and backward
// (docs/model.md sections 2 to 5).
#pragma once

#include <vector>

#include "model/active_rows.h"
#include "model/routing.h"
#include "model/shared_keys.h"

namespace mor {

/// What one recursion keeps for its backward.
struct RecursionActivations {
  ActiveRows active;
  Selection selection;
  RouterActivations router, auxiliary;  ///< expert choice: scores of the rows entering
  Tensor d_scores, d_auxiliary_scores;  ///< gradients of the losses on the scores, filled in the forward
  Tensor sums, auxiliary_sums;          ///< expert_choice_loss sums
  Gates gates;                          ///< of the rows that are added to the stream after this recursion
  Selection exits;                      ///< token choice: rows of this recursion that go no deeper
  const int32_t* exit_to = nullptr;     ///< token choice: their rows of the batch
  Tensor stream;                        ///< [M, d] the stream entering the recursion
  LayerRun run;
};

struct BodyActivations {
  ActiveRows all;
  std::vector<RecursionActivations> recursions;
  SharedKeys shared;
  TokenChoice choice;  ///< decided from the stream that enters the body
};

/// Returns the stream [M, d] that leaves the body; `stream` is not changed.
Tensor body_forward(Pass& pass, const ActiveRows& all, const Tensor& stream, BodyActivations& kept);
/// d [M, d]: the gradient of the stream that leaves the body, becomes that of the stream that enters it.
void body_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
/// Puts counts, FLOPs and the numbers of the router's statistics into the report.
void body_report(Pass& pass, const BodyActivations& kept);
/// How many recursions each row of the batch ran, [M] host.
std::vector<uint8_t> body_depths(const Pass& pass, const BodyActivations& kept);

// In expert_choice.cpp and token_choice.cpp.
Tensor expert_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept);
void expert_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
void expert_choice_report(Pass& pass, const BodyActivations& kept);
Tensor token_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept);
void token_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
void token_choice_report(Pass& pass, const BodyActivations& kept);

/// To be called before the layers of recursion r run. Its rows are the rows `to` of the batch (null: all of them), and
/// `others` [M, d] is the stream of the other rows.
void begin_recursion(Pass& pass, int32_t r, const Tensor& others, const int32_t* to);

/// The rows of recursion 1 for compact_rows, if recursion 1 has run and RoutingRules::sees_tokens_that_left; else null.
const ActiveRows* rows_of_first(const Pass& pass, const BodyActivations& kept);

}  // namespace mor
