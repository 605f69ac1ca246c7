// allocate_for: says what the memory was for that a device does not have.
#pragma once

#include <string>

#include "core/check.h"

namespace mor {

/// Runs `allocate`. If it throws OUT_OF_MEMORY, the message is made to begin with `what`: what the memory was for.
template <class Allocate>
void allocate_for(const std::string& what, const Allocate& allocate) {
  try {
    allocate();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    MOR_FAIL(OUT_OF_MEMORY, what, ", but ", error.what());
  }
}

}  // namespace mor
