// Readback and PassResult: from the bytes that were copied to losses and statistics.
#include "model/report.h"

#include <algorithm>

#include "model/host_values.h"

namespace mor {

void Readback::fetch(size_t bytes) {
  MOR_CHECK(bytes <= arena_.capacity(), INTERNAL, bytes, " bytes to read, but there are ", arena_.capacity());
  host_.resize(bytes);
  ops_.copy_to_host(host_.data(), arena_.contents().data, bytes);
}

const void* Readback::host(const void* device, size_t bytes) const {
  const auto offset =
      static_cast<size_t>(static_cast<const char*>(device) - static_cast<const char*>(arena_.contents().data));
  MOR_CHECK(offset <= host_.size() && bytes <= host_.size() - offset, INTERNAL, "bytes ", offset, " .. ",
            offset + bytes, " were not among the ", host_.size(), " that were read");
  return host_.data() + offset;
}

std::vector<double> Readback::values(const Tensor& tensor) const {
  MOR_CHECK(tensor.dtype == ops_.master_dtype(), INTERNAL, tensor.name, " is ", dtype_name(tensor.dtype),
            ", but the master dtype is ", dtype_name(ops_.master_dtype()));
  const auto n = static_cast<size_t>(tensor.count());
  std::vector<double> values(n);
  read_host_values(tensor, host(tensor.data, n * dtype_size(tensor.dtype)), values.data());
  return values;
}

const int32_t* Readback::integers(const int32_t* device) const {
  return static_cast<const int32_t*>(host(device, 0));
}

int64_t Readback::integer(const int64_t* device) const {
  return *static_cast<const int64_t*>(host(device, sizeof(int64_t)));
}

PassResult read_report(const ModelConfig& config, const PassReport& report, const Readback& readback) {
  PassResult result;
  const auto mean = [&](const Tensor& losses) {
    double sum = 0;
    for (const double loss : readback.values(losses)) sum += loss;
    return sum / report.targets;
  };
  result.lm_loss = mean(report.losses);
  if (report.divergences) result.distillation_loss = mean(report.divergences);
  result.distillation_weight = report.distillation_weight;
  PassStatistics& statistics = result.statistics;
  const auto executed = [&](double flops, const std::vector<PassReport::Seen>& all) {
    for (const PassReport::Seen& seen : all) flops += seen.flops * static_cast<double>(readback.integer(seen.keys));
    return flops;
  };
  statistics.flops = executed(report.flops, report.seen);
  statistics.teacher_flops = executed(report.teacher_flops, report.teacher_seen);
  const auto tokens = static_cast<int32_t>(report.tokens);
  statistics.active.resize(static_cast<size_t>(config.num_recursions), routing_rules(config).block_recurs ? 0 : tokens);
  for (size_t r = 0; r < report.recursions.size(); ++r) statistics.active[r] = report.recursions[r].rows;
  if (!report.recursions.empty() && config.router.type == RouterType::expert_choice)
    expert_choice_statistics(config, report, readback, statistics);
  if (!report.recursions.empty() && config.router.type == RouterType::token_choice)
    token_choice_statistics(config, report, readback, statistics);
  return result;
}

}  // namespace mor
