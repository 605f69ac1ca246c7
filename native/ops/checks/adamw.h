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

inline void check_adamw(const Tensor& master, const Tensor& gradient, const Tensor& exp_avg, const Tensor& exp_avg_sq,
                        const Tensor& norm) {
  const char* op = "adamw";
  for (const Tensor* tensor : {&master, &gradient, &exp_avg, &exp_avg_sq}) check_vector(op, *tensor, master.count());
  check_vector(op, norm, 1);
}

/// For devices whose memory the host can read, since the segments lie there. master: the flat buffer of masters.
inline void check_adamw_segments(const ParameterSegment* segments, int32_t segment_count, const Tensor& master) {
  int64_t end = 0;
  for (int32_t s = 0; s < segment_count; ++s) {
    const ParameterSegment& segment = segments[s];
    const int64_t begin = segment.offset;
    MOR_CHECK(begin >= end && segment.count >= 0 && begin + segment.count <= master.count(), INVALID_ARGUMENT,
              "adamw: segment ", s, " covers ", begin, " .. ", begin + segment.count, ", but it must lie within ", end,
              " .. ", master.count());
    end = begin + segment.count;
    MOR_CHECK(
        segment.storage == DType::float32 || segment.storage == DType::bfloat16 || segment.storage == master.dtype,
        INVALID_ARGUMENT, "adamw: segment ", s, " is stored as ", dtype_name(segment.storage),
        ", but weights are float32, bfloat16 or, like the masters, ", dtype_name(master.dtype));
    MOR_CHECK(segment.weight_offset >= 0 && segment.weight_offset % dtype_size(segment.storage) == 0, INVALID_ARGUMENT,
              "adamw: the weights of segment ", s, " begin at byte ", segment.weight_offset, ", but a multiple of the ",
              dtype_size(segment.storage), " bytes of ", dtype_name(segment.storage), " is needed");
  }
}

}  // namespace mor
