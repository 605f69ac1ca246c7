// TrainerOptions: how a model is trained (docs/model.md sections 6 and 11), and with whom.
#pragma once

#include <optional>
#include <vector>

#include "distributed/communicator.h"
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
  bool hold_router_state = false;                ///< thresholds and the bias of loss-free balancing stay as they are
  Distillation distillation;                     ///< the teacher must outlive the trainer
  bool recompute = false;

  // ---- Ranks that train one model together (docs/distributed.md). All of them have the same options, and models with
  // the same weights.
  Communicator* communicator = nullptr;    ///< of this rank; null: it trains alone. Must outlive the trainer
  DType gradient_wire = DType::float32;    ///< in which gradients travel: float32 or bfloat16
  int64_t bucket_size = int64_t{1} << 22;  ///< elements of the gradient that travel together, for all ranks
  int64_t weight_hash_interval = 100;  ///< steps between Trainer::compare_ranks, the first step's included; 0: never
};

}  // namespace mor
