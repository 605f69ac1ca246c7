// A change of one token's logit before a token is drawn. C++17 that compiles for the GPU too.
#pragma once

#include <cstdint>

#include "core/rng.h"

namespace mor {

struct LogitEdit {
  int32_t token = 0;
  float bias = 0;        ///< is added first; -infinity: the token is never drawn
  float repetition = 1;  ///< then divides a positive logit and multiplies another (Keskar et al. 2019); above 0
  float penalty = 0;     ///< is subtracted last
};

MOR_HOST_DEVICE inline float edited_logit(float logit, const LogitEdit& edit) {
  const float biased = logit + edit.bias;
  return (biased > 0 ? biased / edit.repetition : biased * edit.repetition) - edit.penalty;
}

}  // namespace mor
