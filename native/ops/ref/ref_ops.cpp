// RefOps, compiled. Must not hold any specification.
#include "ops/ref/ref_ops.h"

namespace mor {

template class RefOps<float>;
template class RefOps<double>;
template class RefOps<std::complex<double>>;

}  // namespace mor
