// StepResult: sums over micro-batches and ranks.
#include "train/step_result.h"

#include <algorithm>

namespace mor {

namespace {

constexpr double StepResult::*kSums[] = {
    &StepResult::loss,           &StepResult::lm_loss,      &StepResult::distillation_loss,
    &StepResult::auxiliary_loss, &StepResult::z_loss,       &StepResult::balancing_loss,
    &StepResult::flops,          &StepResult::vanilla_flops};
/// Weighed means, which are -1 where they do not apply.
constexpr double StepResult::*kMeans[] = {&StepResult::routing_accuracy, &StepResult::dead_token_ratio,
                                          &StepResult::max_vio, &StepResult::load_entropy,
                                          &StepResult::communication_seconds};

void add_mean(double& to, double part) {
  if (part >= 0) to = (to < 0 ? 0 : to) + part;
}

}  // namespace

void add_pass(StepResult& total, const PassResult& part, double target_share, double share) {
  const PassStatistics& statistics = part.statistics;
  total.lm_loss += target_share * part.lm_loss;
  total.auxiliary_loss += share * statistics.auxiliary_loss;
  total.z_loss += share * statistics.z_loss;
  total.balancing_loss += share * statistics.balancing_loss;
  total.distillation_loss += target_share * part.distillation_loss;
  total.loss += target_share * part.target_loss() + share * statistics.router_loss();
  total.flops += statistics.flops;
  const std::vector<int32_t>& active = statistics.active;
  total.depth_histogram.resize(std::max(total.depth_histogram.size(), active.size()));
  for (size_t r = 0; r < active.size(); ++r)
    total.depth_histogram[r] += active[r] - (r + 1 < active.size() ? active[r + 1] : 0);
  const auto add_own = [&](double& to, double own) { add_mean(to, own < 0 ? own : share * own); };
  add_own(total.routing_accuracy, statistics.routing_accuracy);
  add_own(total.dead_token_ratio, statistics.dead_token_ratio);
  add_own(total.max_vio, statistics.max_vio);
  add_own(total.load_entropy, statistics.load_entropy);
}

Numbers numbers_of(const StepResult& part) {
  Numbers numbers;
  for (const auto sum : kSums) numbers.push_back(part.*sum);
  for (const auto mean : kMeans) numbers.push_back(part.*mean);
  numbers.push_back(part.slowest_rank_seconds);
  numbers.insert(numbers.end(), part.depth_histogram.begin(), part.depth_histogram.end());
  return numbers;
}

void add_numbers(StepResult& total, const Numbers& numbers, int32_t rank) {
  auto next = numbers.begin();
  for (const auto sum : kSums) total.*sum += *next++;
  for (const auto mean : kMeans) add_mean(total.*mean, *next++);
  if (const double seconds = *next++; seconds > total.slowest_rank_seconds) {
    total.slowest_rank_seconds = seconds;
    total.slowest_rank = rank;
  }
  const auto depths = static_cast<size_t>(numbers.end() - next);
  total.depth_histogram.resize(std::max(total.depth_histogram.size(), depths));
  for (int64_t& tokens : total.depth_histogram) tokens += static_cast<int64_t>(*next++);
}

std::vector<double> shares_of(const std::vector<int64_t>& depth_histogram, int64_t tokens) {
  std::vector<double> shares(depth_histogram.size());
  int64_t deeper = 0;
  for (size_t r = shares.size(); r-- > 0;) {
    deeper += depth_histogram[r];
    shares[r] = static_cast<double>(deeper) / static_cast<double>(tokens);
  }
  return shares;
}

double vanilla_flops(const ModelConfig& c, double sequences, double length) {
  const double weights =
      static_cast<double>(c.hidden_size) * (c.qkv_size() + c.query_size() + 3.0 * c.intermediate_size);
  const double rows = sequences * length, pairs = sequences * length * (length + 1) / 2;
  return 3 * (c.num_hidden_layers * (2 * weights * rows + 4 * pairs * c.query_size()) +
              2.0 * c.vocab_size * c.hidden_size * rows);
}

}  // namespace mor
