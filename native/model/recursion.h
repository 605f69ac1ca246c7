// The body of the model: the shared block applied up to N times, with or without a router, forward and backward
// (docs/model.md sections 2 to 5). Must not know of embeddings or the head.
#pragma once

#include <vector>

#include "model/pass.h"

namespace mor {

/// What one recursion keeps for its backward.
struct RecursionActivations {
  ActiveRows active;
  Selection selection;
  RouterActivations router, auxiliary;  ///< expert choice: scores of the rows entering
  Tensor d_scores, d_auxiliary_scores;  ///< gradients of the losses on the scores, filled in the forward
  Tensor sums, auxiliary_sums;          ///< expert_choice_loss sums
  Tensor gate;                          ///< of the rows that leave the block into the stream
  Selection exits;                      ///< token choice: rows of this recursion that go no deeper
  const int32_t* exit_to = nullptr;     ///< token choice: their rows of the batch
  Tensor stream;                        ///< [M, d] the stream entering the recursion
  LayerRun run;
};

struct BodyActivations {
  ActiveRows all;
  std::vector<RecursionActivations> recursions;
  SharedKeys shared;
  // Token choice, decided once from the stream that enters the body.
  RouterActivations router;
  Tensor probabilities, gate, load, p_sum, z_sum;
  int32_t* depth = nullptr;
};

/// Returns the stream [M, d] leaving the body; `stream` itself stays as it was.
Tensor body_forward(Pass& pass, const ActiveRows& all, const Tensor& stream, BodyActivations& kept);
/// d [M, d]: gradient of the stream leaving the body, becomes that of the stream entering it.
void body_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
/// Puts counts, FLOPs and what the router's statistics need into the report.
void body_report(Pass& pass, const BodyActivations& kept);
/// How many recursions each row of the batch ran, [M] host.
std::vector<uint8_t> body_depths(const Pass& pass, const BodyActivations& kept);

// One file each: expert_choice.cpp and token_choice.cpp.
Tensor expert_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept);
void expert_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
void expert_choice_report(Pass& pass, const BodyActivations& kept);
Tensor token_choice_forward(Pass& pass, const Tensor& stream, BodyActivations& kept);
void token_choice_backward(Pass& pass, BodyActivations& kept, const Tensor& d);
void token_choice_report(Pass& pass, const BodyActivations& kept);

/// Whose keys the rows of the next recursion see beside their own (compact_rows): those of recursion 1, once it has run
/// and where the cache policy says so.
const ActiveRows* rows_of_first(const Pass& pass, const BodyActivations& kept);
/// Gives the kept key sources of recursion r their gradient buffers.
void attach_shared_gradients(BodyActivations& kept, RecursionActivations& recursion);

/// Host copies of small device arrays.
std::vector<double> read_master(Ops& ops, const Tensor& tensor);
std::vector<int32_t> read_integers(Ops& ops, const int32_t* device, int64_t n);

}  // namespace mor
