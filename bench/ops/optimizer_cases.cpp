// Cases of the optimiser, over the weights of one layer.
#include "bench/ops/case.h"
#include "ops/adamw_step.h"

namespace mor::bench {

void add_optimizer_cases(const Shape& s, Ops& ops, std::vector<Case>& cases) {
  const double size = static_cast<double>(dtype_size(ops.compute_dtype()));
  const int64_t count = s.hidden * (2 * s.query_size() + 2 * s.key_value_size() + 3 * s.intermediate);
  const bool rounded = ops.compute_dtype() != ops.master_dtype();
  Case c;
  c.op = "global_norm";
  c.bytes = 4 * static_cast<double>(count);
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor gradient = b.master_vector(count), norm = b.master_vector(1);
    return [=, &ops] { ops.global_norm(gradient, norm); };
  };
  cases.push_back(c);
  c.op = "adamw";
  // Master weights and both moments are read and written, the gradient is read, the rounded weights are written.
  c.bytes = (4 * 7 + (rounded ? size : 0)) * static_cast<double>(count);
  c.make = [=, &ops](Buffers& b) -> Run {
    const Tensor master = b.master_vector(count), gradient = b.master_vector(count);
    const Tensor exp_avg = b.master_vector(count), exp_avg_sq = b.positive_vector(count), norm = b.positive_vector(1);
    void* weights = (rounded ? b.activation_vector(count) : master).data;
    ParameterSegment segment;
    segment.count = count;
    segment.storage = ops.compute_dtype();
    const ParameterSegment* segments = b.copied<ParameterSegment>({segment});
    const AdamWStep* step = b.copied<AdamWStep>({adamw_step({}, 1e-3, 1)});
    return [=, &ops] { ops.adamw(master, weights, gradient, exp_avg, exp_avg_sq, norm, segments, 1, {}, step); };
  };
  cases.push_back(c);
}

}  // namespace mor::bench
