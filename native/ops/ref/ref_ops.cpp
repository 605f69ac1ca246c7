// RefOps: how its memory is copied, and the compilation of all its ops.
#include "ops/ref/ref_ops.h"

#include <cstring>

#include "ops/ref/adamw.h"
#include "ops/ref/attention.h"
#include "ops/ref/cast.h"
#include "ops/ref/cross_entropy.h"
#include "ops/ref/distillation.h"
#include "ops/ref/embedding.h"
#include "ops/ref/expert_choice_loss.h"
#include "ops/ref/gelu.h"
#include "ops/ref/kv_write.h"
#include "ops/ref/linear.h"
#include "ops/ref/qkv.h"
#include "ops/ref/rmsnorm.h"
#include "ops/ref/rotary.h"
#include "ops/ref/router_gate.h"
#include "ops/ref/router_scores.h"
#include "ops/ref/rows.h"
#include "ops/ref/sample.h"
#include "ops/ref/select.h"
#include "ops/ref/swiglu.h"
#include "ops/ref/token_choice.h"

namespace mor::ref {

template <class T>
void RefOps<T>::copy_to_device(void* device, const void* host, size_t bytes) {
  RefOps::copy(device, host, bytes);
}
template <class T>
void RefOps<T>::copy_to_host(void* host, const void* device, size_t bytes) {
  RefOps::copy(host, device, bytes);
}
template <class T>
void RefOps<T>::copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
template <class T>
void RefOps<T>::zero(void* device, size_t bytes) {
  if (bytes > 0) std::memset(device, 0, bytes);
}
template <class T>
void RefOps<T>::synchronize() {}

// The compiler names an op that is asked for here and has no definition.
#define MOR_OP(result, name, parameters)           \
  template result RefOps<float>::name parameters;  \
  template result RefOps<double>::name parameters; \
  template result RefOps<std::complex<double>>::name parameters
#include "ops/op_list.h"

}  // namespace mor::ref
