// Scheduler: which tokens of which requests run next. It knows neither models nor devices; tests simulate it alone.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_cache.h"
#include "engine/scheduler_plan.h"
#include "engine/scheduler_stats.h"
#include "model/routing_rules.h"

namespace mor {

struct SchedulerConfig {
  RoutingRules rules;  ///< without a block that recurs, the entry stage runs every layer
  bool layers_outside_block = true;

  // The blocks of the cache (kv_cache.h).
  int32_t blocks = 0;
  int32_t scratch_blocks = 0;      ///< the first ones belong to no sequence: they take the keys of rows that need none
  int32_t block_size = 0;          ///< tokens in a block under the layers of the recurring block
  int32_t outside_block_size = 0;  ///< tokens in a block under the layers outside it
  int32_t block_stride = 0;        ///< an entry of Rows::block_table is block * stride
  int32_t outside_block_stride = 0;

  int32_t max_batch_size = 0;  ///< most decoding rows in one pass
  int32_t max_sequences = 0;   ///< most running sequences
  int32_t prefill_chunk = 0;   ///< most prompt rows in flight
  bool prefix_cache = true;    ///< whether keys stay for later sequences with the same beginning

  /// Times of one pass of the block, and of exit and entry together, in the same arbitrary unit.
  double block_cost = 1, boundary_cost = 1;
};

/// How many blocks of `size` tokens hold `tokens` tokens.
inline int64_t blocks_of(int64_t tokens, int64_t size) {
  return (tokens + size - 1) / size;
}

/// A step is one pass of the shared block over rows of many sequences at many depths. Where it pays, the boundary
/// stages run between two passes: exit (layers after the block, head, sampling) ends a step, and entry (embedding,
/// layers before the block) begins the next one, so that new tokens take the stream rows that exit freed before the
/// block runs.
class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config);

  /// The number of rows of the stream buffer.
  int32_t stream_rows() const { return config_.max_sequences + config_.prefill_chunk; }

  /// Throws INVALID_ARGUMENT if the id is in use, CONTEXT_OVERFLOW if the cache could never hold the request.
  void submit(Request request);
  void abort(uint64_t id);
  bool unfinished() const { return !sequences_.empty(); }

  /// Ends the sequences that were aborted or have failed.
  void begin_step(std::vector<RequestEvent>& events);
  // The three stages of a step, in this order. A plan is null if the stage has nothing to do in this step; otherwise
  // its commit follows, and it is valid until the next plan. If the host runs out of memory, they throw std::bad_alloc,
  // and `fail_running` makes the scheduler's state consistent again.
  const StagePlan* plan_entry();
  const StagePlan* plan_block();
  void commit_rows(const StageOutcome& outcome);  ///< of entry and of block
  const StagePlan* plan_exit();
  void commit_exit(const StageOutcome& outcome, std::vector<RequestEvent>& events);
  /// To be called between a plan and its commit, while the device works: does in advance what does not depend on the
  /// outcome of the stage.
  void prepare();
  /// A stage has failed: `begin_step` will end every admitted request with this error. Removes all prefixes, because it
  /// is unknown what the stage left in the cache.
  void fail_running(ErrorCode code, std::string_view message);
  /// Empties the prefix cache, since the weights have changed.
  void forget_prefixes();
  /// Those of RoutingRules, which are part of the weights.
  void set_thresholds(std::vector<double> thresholds) { config_.rules.thresholds = std::move(thresholds); }

  SchedulerStats stats() const;

 private:
  /// The order in which sequences are served: by priority, then by arrival.
  struct Before {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return a->request.priority != b->request.priority ? a->request.priority > b->request.priority
                                                        : a->arrival < b->arrival;
    }
  };
  /// The longest cached prefix of a sequence, and the keys that the sequence would take over.
  struct PrefixMatch {
    std::optional<uint64_t> arrival;  ///< of its sequence; none: it is out of date
    uint64_t version = 0;             ///< of the prefix cache
    PrefixNode* node = nullptr;
    std::vector<int32_t> depths;               ///< [tokens]
    std::vector<int32_t> keys;                 ///< [lists]
    std::vector<std::vector<int32_t>> blocks;  ///< [lists] that hold the keys; the last one may hold others behind them

    int32_t tokens() const { return static_cast<int32_t>(depths.size()); }
    void clear(size_t lists);
  };

  // Admission and memory: scheduler.cpp.
  size_t lists() const { return static_cast<size_t>(config_.rules.passes()) + 1; }
  int32_t block_size(size_t list) const { return list == 0 ? config_.outside_block_size : config_.block_size; }
  int32_t block_stride(size_t list) const { return list == 0 ? config_.outside_block_stride : config_.block_stride; }
  bool uses(const Request& request, size_t list) const;
  int64_t blocks_for(const Request& request, int64_t tokens) const;
  int64_t blocks_missing(const Sequence& s, int32_t rows, bool expected) const;
  int32_t expected_keys(size_t list, int32_t tokens) const;
  int32_t tokens_ahead(const Sequence& s) const;
  void update_reach();
  int64_t blocks_available() const { return pool_.free() + pool_.cached(); }
  int32_t take_block();
  bool make_room(const Sequence& s, int32_t rows);
  bool may_admit();
  void admit();
  void preempt(Sequence& s);
  void give_back_blocks(KeyList& list, size_t index, int32_t keys);
  void give_back_rows(Sequence& s);
  void release(Sequence& s);
  void finish(Sequence& s, RequestEvent event, std::vector<RequestEvent>& events);

  // Prefixes: scheduler_prefixes.cpp.
  PrefixRouting routing_of(const Request& request) const;
  uint64_t chunk_hash(Sequence& s, size_t chunk) const;
  static int32_t keys_of(std::span<const int32_t> depths, size_t list);
  void match_prefix(Sequence& s);
  int64_t blocks_beyond_match(const Sequence& s, bool expected) const;
  void take_over_match(Sequence& s);
  void restore_visible_slots(Sequence& s) const;
  void remember(Sequence& s);
  bool remember_chunk(Sequence& s);

  // Stages: scheduler_stages.cpp.
  bool boundary_due();
  void enter(Sequence& s);
  void add_scored_rows();
  void count_exited();
  void assign_cache_slots(Sequence& s);
  void add_group(Sequence& s, const std::vector<int32_t>& table);
  void add_row(const InFlight& row, int32_t visible, int32_t cache_slot);
  void add_block_group(Sequence& s);
  int32_t cache_slot(const Sequence& s, size_t list, int32_t index) const;
  int32_t scratch_slot(int32_t i) const;
  void finish_plan(bool outside, int32_t block_size);
  void advance(Sequence& s, const StageOutcome& outcome, size_t first);

  SchedulerConfig config_;
  BlockPool pool_;
  PrefixCache prefixes_;
  PrefixMatch match_;  ///< of the first waiting sequence
  std::unordered_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  uint64_t arrivals_ = 0;
  std::set<Sequence*, Before> waiting_;
  std::vector<Sequence*> running_;              ///< by Before
  std::vector<Sequence*> ready_;                ///< in phase `block`, in the order in which they became ready
  std::vector<std::vector<Sequence*>> chosen_;  ///< [lists] for the pass being planned, by recursion
  std::vector<double> reach_;                   ///< [lists] share of the tokens run so far that left a key in the list
  std::vector<int32_t> chunk_blocks_, chunk_ends_;  ///< of the prefix being remembered
  std::vector<int32_t> free_slots_;
  bool any_ending_ = false;
  ErrorCode failure_code_ = ErrorCode::INTERNAL;
  std::string failure_message_;
  bool exit_uncounted_ = false;  ///< an exit is planned, and `count_exited` has not been called
  int32_t prompt_rows_ = 0;      ///< in flight
  bool boundary_ = true;         ///< whether the boundary stages are due: exit ends a step, and entry begins the next
  StagePlan plan_;
  /// Passes of the block since the boundary stages ran last, and the rows in those passes.
  double passes_ = 0, rows_passed_ = 0;
  SchedulerStats stats_;
};

}  // namespace mor
