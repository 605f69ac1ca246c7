// Cases of the optimiser, over the weights of one layer.
#include "bench/ops/case.h"
#include "ops/adamw_step.h"

namespace mor::bench {

void add_optimizer_cases(const Shape& s, Cases& cases) {
  const int64_t count = s.hidden * (2 * s.query_size() + 2 * s.key_value_size() + 3 * s.intermediate);
  const double elements = static_cast<double>(count);
  cases.add({.op = "global_norm", .bytes = 4 * elements}, [=](Buffers& b) -> Run {
    const Tensor gradient = b.master_vector(count), norm = b.master_vector(1);
    return [=](Ops& ops) { ops.global_norm(gradient, norm); };
  });
  // Master weights and both moments are read and written, the gradient is read, the rounded weights are written.
  const bool rounded = s.size < 4;
  cases.add({.op = "adamw", .bytes = (4 * 7 + (rounded ? s.size : 0)) * elements}, [=](Buffers& b) -> Run {
    const Tensor master = b.master_vector(count), gradient = b.master_vector(count);
    const Tensor exp_avg = b.master_vector(count), exp_avg_sq = b.positive_vector(count), norm = b.positive_vector(1);
    const Tensor weights = rounded ? b.activation_vector(count) : master;
    const ParameterSegment* segments = b.copied<ParameterSegment>({{.count = count, .storage = weights.dtype}});
    const AdamWStep* step = b.copied<AdamWStep>({adamw_step({}, 1e-3, 1)});
    return
        [=](Ops& ops) { ops.adamw(master, weights.data, gradient, exp_avg, exp_avg_sq, norm, segments, 1, {}, step); };
  });
}

}  // namespace mor::bench
