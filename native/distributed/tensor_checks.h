// What every Communicator requires of the tensors that it is given.
#pragma once

#include "core/check.h"
#include "core/tensor.h"

namespace mor {

/// Throws INVALID_ARGUMENT unless Communicator::reduce_scatter of `size` ranks can sum these values as `wire`.
inline void check_reduce_scatter(int32_t size, const Tensor& values, const Tensor& sum, DType wire) {
  MOR_CHECK(values.dtype == DType::float32 && sum.dtype == DType::float32, INVALID_ARGUMENT,
            "reduce_scatter: ", values.name, " is ", dtype_name(values.dtype), " and ", sum.name, " ",
            dtype_name(sum.dtype), ", but both must be float32");
  MOR_CHECK(wire == DType::float32 || wire == DType::bfloat16, INVALID_ARGUMENT, "reduce_scatter: values travel as ",
            "float32 or bfloat16, not as ", dtype_name(wire));
  MOR_CHECK(values.contiguous() && sum.contiguous() && values.count() == size * sum.count(), INVALID_ARGUMENT,
            "reduce_scatter: ", values.name, " must have ", size, " times the ", sum.count(), " elements of ", sum.name,
            ", but has ", values.count(), "; both must be contiguous");
}

/// Throws INVALID_ARGUMENT unless `size` ranks can gather their equal pieces in this tensor.
inline void check_all_gather(int32_t size, const Tensor& all) {
  MOR_CHECK(all.contiguous() && all.count() % size == 0, INVALID_ARGUMENT, "all_gather: ", all.name, " has ",
            all.count(), " elements, which are not the equal pieces of ", size, " ranks; it must be contiguous");
}

}  // namespace mor
