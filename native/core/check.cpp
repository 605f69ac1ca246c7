// The names of the error codes.
#include "core/check.h"

namespace mor {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::INVALID_CONFIG:
      return "INVALID_CONFIG";
    case ErrorCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case ErrorCode::TOKEN_OUT_OF_RANGE:
      return "TOKEN_OUT_OF_RANGE";
    case ErrorCode::CONTEXT_OVERFLOW:
      return "CONTEXT_OVERFLOW";
    case ErrorCode::CHECKPOINT_INVALID:
      return "CHECKPOINT_INVALID";
    case ErrorCode::CHECKPOINT_MISSING:
      return "CHECKPOINT_MISSING";
    case ErrorCode::IO_ERROR:
      return "IO_ERROR";
    case ErrorCode::OUT_OF_MEMORY:
      return "OUT_OF_MEMORY";
    case ErrorCode::NON_FINITE:
      return "NON_FINITE";
    case ErrorCode::DISPOSED:
      return "DISPOSED";
    case ErrorCode::ABORTED:
      return "ABORTED";
    case ErrorCode::DEVICE_UNAVAILABLE:
      return "DEVICE_UNAVAILABLE";
    case ErrorCode::DEVICE_NOT_FOUND:
      return "DEVICE_NOT_FOUND";
    case ErrorCode::DEVICE_TOO_OLD:
      return "DEVICE_TOO_OLD";
    case ErrorCode::INSTRUCTION_SET_UNAVAILABLE:
      return "INSTRUCTION_SET_UNAVAILABLE";
    case ErrorCode::DRIVER_MISSING:
      return "DRIVER_MISSING";
    case ErrorCode::DRIVER_TOO_OLD:
      return "DRIVER_TOO_OLD";
    case ErrorCode::DEVICE_LOST:
      return "DEVICE_LOST";
    case ErrorCode::INTERNAL:
      return "INTERNAL";
  }
  return "INTERNAL";
}

}  // namespace mor
