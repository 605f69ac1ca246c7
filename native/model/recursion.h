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
  RouterActivations router, auxiliary;  ///< expert choice: scores of the rows that enter
  Tensor d_scores, d_auxiliary_scores;  ///< gradients of the losses on the scores, computed in the forward
  Tensor sums, auxiliary_sums;          ///< sums of expert_choice_loss
  Tensor gate;                          ///< gates of the rows that are added to the stream
  Selection exits;                      ///< token choice: rows that leave after this recursion
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

/// Returns the stream [M, d] that leaves the body; `stream` itself is not changed.
Tensor body_forward(Pass& pass, const ActiveRows& all, const Tensor& stream, BodyActivations& kept);
/// d [M, d] is the gradient of the stream that leaves the body, and becomes that of the stream that enters it.
void body_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
/// Adds counts, FLOPs and the values for the router's statistics to the report.
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

/// The rows whose keys later recursions see too (`first` of compact_rows): those of recursion 1, if it has run and the
/// cache policy says so; else null.
const ActiveRows* rows_of_first(const Pass& pass, const BodyActivations& kept);

/// Copies of small device arrays on the host.
std::vector<double> read_master(Ops& ops, const Tensor& tensor);
std::vector<int32_t> read_integers(Ops& ops, const int32_t* device, int64_t n);

}  // namespace mor
