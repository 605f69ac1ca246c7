// PassReport: where the numbers of a pass are in device memory; PassResult: what they say once the host has read them.
#pragma once

#include <vector>

#include "model/config.h"

namespace mor {

/// Device memory that the host reads by one copy, once the work that fills it is done.
class Readback {
 public:
  explicit Readback(Ops& ops) : ops_(ops), arena_(ops) {}

  /// Where the work puts its numbers. Must be reserved in one piece for all of them.
  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }
  /// Waits for the device and copies the first `bytes` of the arena. bytes: contents().bytes as it was when the work
  /// had been put into the device's queue; a replay of the work (Ops::replay) fills the same bytes.
  void fetch(size_t bytes);

  /// Numbers of the last fetch, by their addresses in the arena.
  std::vector<double> values(const Tensor& tensor /*[n] master*/) const;
  const int32_t* integers(const int32_t* device) const;
  int64_t integer(const int64_t* device) const;

 private:
  const void* host(const void* device, size_t bytes) const;

  Ops& ops_;
  Arena arena_;
  std::vector<uint8_t> host_;
};

/// One recursion of the body.
struct RecursionReport {
  int32_t rows = 0;             ///< rows that ran it
  int64_t entering = 0;         ///< expert choice: rows that were scored
  bool judged = false;          ///< expert choice: whether the threshold's agreement with top-k is counted
  Tensor sums, auxiliary_sums;  ///< expert_choice_loss sums
  Tensor scores;                ///< [entering] of a training pass that selects by threshold and asks a router
};

/// Of one pass. All pointers are to memory of a Readback's arena.
struct PassReport {
  Tensor values;       ///< [n] master: all numbers that the loss is made of; the tensors below are parts of it
  Tensor losses;       ///< [rows]
  Tensor divergences;  ///< [rows] of distillation, else empty
  double distillation_weight = 0;
  double flops = 0;  ///< forward, without those of `seen`
  struct Seen {
    double flops;         ///< per visible key
    const int64_t* keys;  ///< number of visible keys over all rows
  };
  std::vector<Seen> seen;
  double teacher_flops = 0;  ///< likewise of the teacher's forward pass
  std::vector<Seen> teacher_seen;
  std::vector<RecursionReport> recursions;
  const int32_t* last_position = nullptr;  ///< expert choice: [rows of the last recursion]
  int32_t length = 0;                      ///< tokens of a sequence
  int64_t tokens = 0;                      ///< tokens of the batch
  double targets = 1;                      ///< targets whose losses the mean is taken of
  Tensor load, p_sum, z_sum;               ///< token choice: sums of token_choice_forward
};

/// Of one batch.
struct PassStatistics {
  std::vector<int32_t> active;  ///< [N] tokens whose depth (RoutingRules::depth) is at least r + 1
  double auxiliary_loss = 0, z_loss = 0, balancing_loss = 0;
  double routing_accuracy = -1;  ///< threshold against top-k over recursions that select; -1: does not apply
  double dead_token_ratio = -1;  ///< share of positions that no sequence sends to recursion N; -1: does not apply
  double max_vio = -1, load_entropy = -1;  ///< token choice
  std::vector<double> load;                ///< [N] rows whose depth is j+1; token choice
  double flops = 0;                        ///< executed, forward
  double teacher_flops = 0;                ///< likewise by the teacher
  double router_loss() const { return auxiliary_loss + z_loss + balancing_loss; }
};

struct PassResult {
  double lm_loss = 0;            ///< mean cross-entropy of the targets of the batch
  double distillation_loss = 0;  ///< mean divergence from the teacher, times the square of the temperature
  double distillation_weight = 0;
  PassStatistics statistics;
  /// What the targets are trained by.
  double target_loss() const { return (1 - distillation_weight) * lm_loss + distillation_weight * distillation_loss; }
  /// The loss of the targets and every auxiliary term.
  double loss() const { return target_loss() + statistics.router_loss(); }
};

/// What the report says, by the numbers that were fetched.
PassResult read_report(const ModelConfig& config, const PassReport& report, const Readback& readback);

// In expert_choice.cpp and token_choice.cpp.
void expert_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                              PassStatistics& statistics);
void token_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                             PassStatistics& statistics);

}  // namespace mor
