// The results of a pass for the host: their places in device memory while the device is busy (PassReport), and their
// meaning once they have been read (PassResult).
#pragma once

#include <vector>

#include "model/config.h"

namespace mor {

/// Device memory that the host reads by one copy after the work that fills it.
class Readback {
 public:
  explicit Readback(Ops& ops) : ops_(ops), arena_(ops) {}

  /// The memory that the work fills. Its whole size must be reserved.
  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }
  /// Copies the first `bytes` of the arena to the host, and waits for the device. bytes: contents().bytes of the arena
  /// after the work was put into the queue; a replayed recording (Ops::replay) fills the same bytes.
  void fetch(size_t bytes);

  /// Values of the last fetch, by their addresses in the arena.
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
  bool judged = false;          ///< expert choice: whether the threshold's agreement with the selection counts
  Tensor sums, auxiliary_sums;  ///< sums of expert_choice_loss
};

/// The results of one pass. All tensors and pointers are in the arena of a Readback.
struct PassReport {
  Tensor values;     ///< [n] master: all numbers that make up the loss, including those below
  Tensor losses;     ///< [rows]
  double flops = 0;  ///< forward FLOPs without those of `seen`
  struct Seen {
    double flops;         ///< FLOPs for each visible key
    const int64_t* keys;  ///< number of visible keys over all rows
  };
  std::vector<Seen> seen;
  std::vector<RecursionReport> recursions;
  const int32_t* last_position = nullptr;  ///< expert choice: [rows of the last recursion]
  int32_t length = 0;                      ///< tokens of a sequence
  int64_t tokens = 0;                      ///< tokens of the batch
  Tensor load, p_sum, z_sum;               ///< token choice: sums of token_choice_forward
};

/// Statistics of the batch.
struct PassStatistics {
  std::vector<int32_t> active;  ///< [N] tokens whose depth (RoutingRules::depth) is at least r + 1
  double auxiliary_loss = 0, z_loss = 0, balancing_loss = 0;
  double routing_accuracy = -1;  ///< share of decisions in which threshold and top-k agree; -1: does not apply
  double dead_token_ratio = -1;  ///< share of positions that no sequence selected for the last recursion; -1: likewise
  double max_vio = -1, load_entropy = -1;  ///< token choice
  std::vector<double> load;                ///< [N] rows whose depth is j+1; token choice
  double flops = 0;                        ///< executed, forward
};

struct PassResult {
  double lm_loss = 0;  ///< mean over the targets of the batch
  PassStatistics statistics;
  /// The language-model loss and every auxiliary term.
  double loss() const { return lm_loss + statistics.auxiliary_loss + statistics.z_loss + statistics.balancing_loss; }
};

/// Reads the results of a report from the fetched bytes.
PassResult read_report(const ModelConfig& config, const PassReport& report, const Readback& readback);

// In expert_choice.cpp and token_choice.cpp.
void expert_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                              PassStatistics& statistics);
void token_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                             PassStatistics& statistics);

}  // namespace mor
