// StepResult: what a step or an evaluation measured, and how the parts of micro-batches and ranks become the whole.
#pragma once

#include <vector>

#include "model/report.h"
#include "train/ranks.h"

namespace mor {

struct StepResult {
  double loss = 0, lm_loss = 0, distillation_loss = 0, auxiliary_loss = 0, z_loss = 0, balancing_loss = 0;
  double gradient_norm = 0, learning_rate = 0, seconds = 0;
  int64_t tokens = 0;                    ///< that the model ran over
  int64_t targets = 0;                   ///< that the loss is the mean of
  int64_t step = 0;                      ///< how many have been done, this one included
  int32_t recursions = 0;                ///< most recursions of a token in this step
  double flops = 0;                      ///< executed, forward and backward (3 x forward), head included
  double vanilla_flops = 0;              ///< what the same depth without recursion skipping would execute
  std::vector<int64_t> depth_histogram;  ///< [N] tokens of depth r + 1 (RoutingRules::depth)
  std::vector<double> selected_shares;   ///< expert choice: [N] share of the tokens that ran recursion r + 1
  std::vector<double> thresholds;        ///< training by threshold: [N] those that this step selected by
  double routing_accuracy = -1, dead_token_ratio = -1, max_vio = -1, load_entropy = -1;  ///< -1: does not apply
  size_t memory_bytes = 0;

  // ---- Of several ranks; -1: it trains alone.
  double communication_seconds = -1;  ///< that a rank waited for others: the mean over ranks
  double slowest_rank_seconds = -1;   ///< that the rank took that waited least, without its waiting
  int32_t slowest_rank = -1;
};

/// Adds what one micro-batch has of the losses, FLOPs (forward) and statistics. target_share, token_share: how much of
/// the targets and tokens of the step, on all ranks, it has.
void add_pass(StepResult& total, const PassResult& part, double target_share, double token_share);

/// What add_pass has added up, and the times, as numbers of which the sum over ranks is that of all micro-batches of
/// all ranks: but -1, which does not apply, stays that, and the slowest rank is one of them.
Numbers numbers_of(const StepResult& part);
void add_numbers(StepResult& total, const Numbers& numbers, int32_t rank);

/// For every depth, the share of the tokens that went as deep or deeper.
std::vector<double> shares_of(const std::vector<int64_t>& depth_histogram, int64_t tokens);

/// Forward and backward FLOPs of a model of the same shape and effective depth without skipping.
double vanilla_flops(const ModelConfig& config, double sequences, double length);

}  // namespace mor
