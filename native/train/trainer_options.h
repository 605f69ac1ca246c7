// TrainerOptions: how a model is trained (docs/model.md sections 6 and 11).
#pragma once

#include <optional>
#include <vector>

#include "model/pass.h"
#include "train/parameter_options.h"
#include "train/schedule.h"

namespace mor {

struct TrainerOptions : AdamWParams {
  double learning_rate = 3e-3, weight_decay = 0.1;
  Schedule schedule;
  DepthSchedule depth;
  std::optional<int64_t> capacity_warmup_steps;  ///< in place of RouterConfig::capacity_warmup_steps
  std::vector<ParameterOptions> parameters;      ///< at most one entry for each; the others follow the options above
  Distillation distillation;                     ///< the teacher must outlive the trainer
  bool recompute = false;
};

}  // namespace mor
