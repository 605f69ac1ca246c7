// Trainer: one optimiser step, of one rank or of several together (docs/distributed.md).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "train/router_state.h"
#include "train/trainer.h"

namespace mor {

namespace {

using Clock = std::chrono::steady_clock;

/// What ranks tell each other before a step, by place.
enum Told : size_t { kTokens, kTargets, kMicroBatches, kStepsDone };

Totals totals_of(const std::vector<Numbers>& ranks) {
  const Numbers sums = sum_of(ranks);
  return {static_cast<int64_t>(sums[kTokens]), static_cast<int64_t>(sums[kTargets])};
}

int64_t most_micro_batches(const std::vector<Numbers>& ranks) {
  double most = 0;
  for (const Numbers& told : ranks) most = std::max(most, told[kMicroBatches]);
  return static_cast<int64_t>(most);
}

void check_teacher_context(const Model* teacher, const std::vector<Batch>& batches) {
  if (teacher == nullptr) return;
  const int32_t context = teacher->config().max_position_embeddings;
  for (const Batch& batch : batches)
    MOR_CHECK(batch.length <= context, CONTEXT_OVERFLOW, "rows of ", batch.length,
              " tokens do not fit the teacher's context of ", context);
}

std::vector<Tensor> values_of(const std::vector<PassReport>& passes) {
  std::vector<Tensor> values;
  for (const PassReport& pass : passes) values.push_back(pass.values);
  return values;
}

/// Of numbers that are 0 on ranks without finite values: which ranks these are, for a message.
std::string where_not_finite(const std::vector<Numbers>& finite) {
  std::string names;
  int count = 0;
  for (size_t rank = 0; rank < finite.size(); ++rank) {
    if (finite[rank][0] != 0) continue;
    names += concat(count == 0 ? "" : ", ", rank);
    ++count;
  }
  if (count == 0) return " (the gradients of every rank are finite, but not their sums)";
  return concat(" (not finite on rank", count == 1 ? " " : "s ", names, ")");
}

}  // namespace

/// The loads of token choice, which all ranks add up as often as one of them has micro-batches.
class Trainer::LoadsOfRanks {
 public:
  LoadsOfRanks(const Ranks& ranks, int64_t rounds) : ranks_(ranks), left_(rounds) {}
  /// load [N]: becomes that of all ranks.
  void add(Numbers& load) {
    --left_;
    load = sum_of(ranks_.gather(RankCall::step, [&] { return load; }));
    add_to(total_, load);
  }
  /// Takes part without loads until so many rounds are left.
  void add_none_until(int64_t left) {
    while (left_ > left) {
      Numbers none;
      add(none);
    }
  }
  /// [N] of all rounds.
  const Numbers& total() const { return total_; }

 private:
  const Ranks& ranks_;
  int64_t left_;
  Numbers total_;
};

Trainer::StepReport Trainer::passes(const Workspace& workspace, const std::vector<Batch>& batches, PassOptions options,
                                    const Totals& totals) const {
  workspace.report.reset();
  StepReport report;
  report.norm = workspace.report.vector(workspace.ops.master_dtype(), 1, "gradient norm");
  const std::function<void(int32_t)> layer_done = std::exchange(options.layer_done, nullptr);
  for (const Batch& batch : batches) {
    if (&batch == &batches.back()) options.layer_done = layer_done;
    options.loss_scale = share(batch.target_count, totals.targets);
    options.router_loss_scale = share(tokens_of(batch), totals.tokens);
    report.passes.push_back(training_pass(model_, workspace, optimizer_->gradients(), batch, options));
  }
  return report;
}

double Trainer::run_alone(const TokenRows& rows, std::vector<Batch>& batches, const PassOptions& options,
                          const Totals& totals) {
  RecordingKey key = reserved_for_;
  // These arenas get other addresses when a larger batch comes. The buffers of the model and the trainer never move.
  for (const Arena* arena : {&inputs_, &activations_, &readback_.arena()})
    key.push_back(reinterpret_cast<uintptr_t>(arena->contents().data));
  upload(rows, batches);
  const auto work = [&] {
    optimizer_->zero_gradients();
    report_ = passes(workspace(), batches, options, totals);
    report_.bytes = readback_.arena().contents().bytes;
    optimizer_->update(values_of(report_.passes), report_.norm);
  };
  model_.context(activations_).may_interrupt();
  model_.weights_changed();
  if (waits_for_counts(model_.config(), options_.distillation))
    work();
  else
    model_.ops().replay(recording_, key, work);
  readback_.fetch(report_.bytes);
  return readback_.values(report_.norm)[0];
}

double Trainer::run_together(const TokenRows& rows, std::vector<Batch>& batches, PassOptions options,
                             const Totals& totals, LoadsOfRanks& loads, std::exception_ptr& failure) {
  const auto work = [&] {
    report_ = {};
    upload(rows, batches);
    optimizer_->zero_gradients();
    model_.context(activations_).may_interrupt();
    if (model_.config().router.type == RouterType::token_choice) {
      options.add_loads = [&](Numbers& load) { loads.add(load); };
      // Ranks with fewer micro-batches begin later, so that all end together.
      loads.add_none_until(static_cast<int64_t>(batches.size()));
    }
    options.layer_done = [&](int32_t layer) { optimizer_->layer_done(layer); };
    report_ = passes(workspace(), batches, options, totals);
    report_.bytes = readback_.arena().contents().bytes;
  };
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::COMMUNICATION_FAILED) throw;
    failure = std::current_exception();
  } catch (...) {
    failure = std::current_exception();
  }
  // The others would wait for a rank that does not take part to the end.
  loads.add_none_until(0);
  model_.weights_changed();
  const double norm = optimizer_->update_together(values_of(report_.passes), failure != nullptr);
  readback_.fetch(report_.bytes);
  return norm;
}

void Trainer::fail(RankCall call, const Error& error) const {
  ranks_.gather(call, [&]() -> Numbers { throw error; });
  throw error;
}

StepResult Trainer::step(const TokenRows& rows) {
  const Clock::time_point begin = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  if (timed_ != nullptr) timed_->seconds = 0;
  const ModelConfig& config = model_.config();
  const PassOptions pass = pass_options();
  std::vector<Batch> batches;
  const std::vector<Numbers> told = ranks_.gather(RankCall::step, [&] {
    optimizer_->check_whole();
    batches = batches_of(rows);
    check_rows(config, rows, batches);
    check_teacher_context(options_.distillation.teacher, batches);
    const Totals own = totals_of(batches);
    reserve(key_of(batches, pass), batches, [&](const Workspace& counting) { passes(counting, batches, pass, own); });
    return Numbers{static_cast<double>(own.tokens), static_cast<double>(own.targets),
                   static_cast<double>(batches.size()), static_cast<double>(steps_done_)};
  });
  check_same(told, kStepsDone, "the number of steps done");
  if (options_.weight_hash_interval > 0 && steps_taken_ % options_.weight_hash_interval == 0)
    compare_ranks(RankCall::step);
  const Totals totals = totals_of(told);
  check_targets(totals);

  const double rate = options_.schedule.rate(options_.learning_rate, steps_done_);
  optimizer_->set_step(rate, steps_done_ + 1);
  const bool alone = options_.communicator == nullptr;
  LoadsOfRanks loads(ranks_, !alone && config.router.type == RouterType::token_choice ? most_micro_batches(told) : 0);
  std::exception_ptr failure;
  const double norm =
      alone ? run_alone(rows, batches, pass, totals) : run_together(rows, batches, pass, totals, loads, failure);

  Numbers load;
  const std::vector<Numbers> parts = ranks_.gather(RankCall::step, [&] {
    if (failure != nullptr) std::rethrow_exception(failure);
    StepResult own;
    double teacher_flops = 0;
    for (size_t m = 0; m < batches.size(); ++m) {
      const Batch& batch = batches[m];
      const PassResult part = read_report(config, report_.passes[m], readback_);
      add_pass(own, part, share(batch.target_count, totals.targets), share(tokens_of(batch), totals.tokens));
      add_to(load, part.statistics.load);
      teacher_flops += part.statistics.teacher_flops;
      own.vanilla_flops += vanilla_flops(config, batch.sequences, batch.length);
    }
    own.flops = 3 * own.flops + teacher_flops;
    if (timed_ != nullptr) {
      own.communication_seconds = timed_->seconds / timed_->size();
      own.slowest_rank_seconds = seconds() - timed_->seconds;
    }
    return numbers_of(own);
  });
  StepResult result;
  for (size_t rank = 0; rank < parts.size(); ++rank) add_numbers(result, parts[rank], static_cast<int32_t>(rank));
  result.learning_rate = rate;
  result.gradient_norm = norm;
  if (!std::isfinite(norm)) refuse(result);
  const bool holds = options_.hold_router_state;
  if (model_.balancing_bias() && !holds) update_balancing_bias(model_, alone ? load : loads.total());
  if (model_.thresholds())
    result.thresholds =
        holds
            ? routing_rules(model_).thresholds
            : update_thresholds(model_, joined_scores(ranks_.gather(RankCall::step, [&] {
                                  return numbers_of(entering_scores(model_, batches, pass, report_.passes, readback_));
                                })));
  if (config.router.type == RouterType::expert_choice)
    result.selected_shares = shares_of(result.depth_histogram, totals.tokens);
  optimizer_->end_step();
  result.step = ++steps_done_;
  ++steps_taken_;
  result.tokens = totals.tokens;
  result.targets = totals.targets;
  result.recursions = pass.max_recursions;
  result.memory_bytes = memory().total();
  result.seconds = seconds();
  return result;
}

void Trainer::refuse(const StepResult& result) {
  std::string where;
  if (options_.communicator != nullptr)
    where = where_not_finite(ranks_.gather(
        RankCall::step, [&] { return Numbers{optimizer_->own_are_finite(values_of(report_.passes)) ? 1.0 : 0.0}; }));
  // The optimiser has read the same norm, which is NaN where a loss is not finite, and has changed nothing.
  MOR_FAIL(NON_FINITE, "step ", steps_done_ + 1, " was refused: loss ", result.loss, ", gradient norm ",
           result.gradient_norm, where,
           "; weights and optimiser state are as before. Lower the learning rate or look at the batch");
}

}  // namespace mor
