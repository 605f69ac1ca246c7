// What a pass tells the host: where its numbers lie in device memory while the device is still busy, and what they mean
// once they have been read. Must not know how they were computed.
#pragma once

#include <vector>

#include "model/config.h"

namespace mor {

/// Device memory that the host reads by one copy when the work that fills it is done.
class Readback {
 public:
  explicit Readback(Ops& ops) : ops_(ops), arena_(ops) {}

  /// Where the work puts it; to be reserved for all of it.
  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }
  /// Copies the first `bytes` that the arena handed out: contents().bytes when the work had been put into the queue.
  /// What is repeated by the device alone (Ops::replay) puts as many there. Waits for the device.
  void fetch(size_t bytes);

  /// Of the last fetch, by the addresses that the arena gave.
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
  int32_t rows = 0;             ///< that ran it
  int64_t entering = 0;         ///< expert choice: rows that were scored
  bool judged = false;          ///< expert choice: whether the threshold's agreement with the selection counts
  Tensor sums, auxiliary_sums;  ///< expert_choice_loss sums
};

/// One pass. Everything it points to lies in the arena of a Readback.
struct PassReport {
  Tensor values;     ///< [n] master: all numbers that the loss is made of, those below among them
  Tensor losses;     ///< [rows]
  double flops = 0;  ///< forward, without what every visible key costs
  struct Seen {
    double flops;         ///< for a visible key
    const int64_t* keys;  ///< how many, over all rows
  };
  std::vector<Seen> seen;
  std::vector<RecursionReport> recursions;
  const int32_t* last_position = nullptr;  ///< expert choice: [rows of the last recursion]
  int32_t length = 0;                      ///< tokens of a sequence
  int64_t tokens = 0;                      ///< of the batch
  Tensor load, p_sum, z_sum;               ///< token choice: token_choice_forward's sums
};

/// Sums over the batch.
struct PassStatistics {
  std::vector<int32_t> active;  ///< [N] tokens whose depth (RoutingRules::depth) is at least r + 1
  double auxiliary_loss = 0, z_loss = 0, balancing_loss = 0;
  double routing_accuracy = -1;  ///< threshold against top-k over recursions that select; -1: does not apply
  double dead_token_ratio = -1;  ///< positions that no sequence selected for the last recursion; -1: does not apply
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

/// What the report says, from the fetched copy.
PassResult read_report(const ModelConfig& config, const PassReport& report, const Readback& readback);

// One file each: expert_choice.cpp and token_choice.cpp.
void expert_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                              PassStatistics& statistics);
void token_choice_statistics(const ModelConfig& config, const PassReport& report, const Readback& readback,
                             PassStatistics& statistics);

}  // namespace mor
