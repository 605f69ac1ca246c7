// The names of the error codes.
#include "core/check.h"

#include <iterator>

namespace mor {

const char* error_code_name(ErrorCode code) {
  // In the order of the enum.
  constexpr const char* kNames[] = {"INVALID_CONFIG",
                                    "INVALID_ARGUMENT",
                                    "TOKEN_OUT_OF_RANGE",
                                    "CONTEXT_OVERFLOW",
                                    "CHECKPOINT_INVALID",
                                    "CHECKPOINT_MISSING",
                                    "IO_ERROR",
                                    "OUT_OF_MEMORY",
                                    "NON_FINITE",
                                    "DISPOSED",
                                    "ABORTED",
                                    "DEVICE_UNAVAILABLE",
                                    "DEVICE_NOT_FOUND",
                                    "DEVICE_TOO_OLD",
                                    "INSTRUCTION_SET_UNAVAILABLE",
                                    "DRIVER_MISSING",
                                    "DRIVER_TOO_OLD",
                                    "DEVICE_LOST",
                                    "COMMUNICATION_FAILED",
                                    "INTERNAL"};
  static_assert(std::size(kNames) == static_cast<size_t>(ErrorCode::INTERNAL) + 1);
  return kNames[static_cast<size_t>(code)];
}

ErrorCode error_code_named(const std::string& name) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::INTERNAL); ++code)
    if (name == error_code_name(static_cast<ErrorCode>(code))) return static_cast<ErrorCode>(code);
  MOR_FAIL(INVALID_ARGUMENT, "\"", name, "\" is not the code of an error");
}

}  // namespace mor
