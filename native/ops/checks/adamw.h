// global_norm, reject_non_finite and adamw: the shapes they accept, for every device.
#pragma once

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

inline void check_global_norm(const Tensor& gradient, const Tensor& norm) {
  check_vector("global_norm", gradient, gradient.count());
  check_vector("global_norm", norm, 1);
}

inline void check_reject_non_finite(const Tensor& values, const Tensor& norm) {
  check_vector("reject_non_finite", values, values.count());
  check_vector("reject_non_finite", norm, 1);
}

inline void check_adamw(const Tensor& master, const Tensor& weights, const Tensor& gradient, const Tensor& exp_avg,
                        const Tensor& exp_avg_sq, const Tensor& norm) {
  const char* op = "adamw";
  check_vector(op, master, master.count());
  for (const Tensor* tensor : {&weights, &gradient, &exp_avg, &exp_avg_sq}) check_vector(op, *tensor, master.count());
  check_vector(op, norm, 1);
}

/// For devices whose memory the host can read.
inline void check_adamw_segments(const ParameterSegment* segments, int32_t segment_count, int64_t n) {
  int64_t end = 0;
  for (int32_t s = 0; s < segment_count; ++s) {
    const int64_t begin = segments[s].offset;
    MOR_CHECK(begin >= end && segments[s].count >= 0 && begin + segments[s].count <= n, INVALID_ARGUMENT,
              "adamw: segment ", s, " covers ", begin, " .. ", begin + segments[s].count, ", but it must lie within ",
              end, " .. ", n);
    end = begin + segments[s].count;
  }
}

}  // namespace mor
