// Errors of the native core: an error code, a message for people, and MOR_CHECK, which throws them. Nothing in the core
// prints, exits or aborts.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace mor {

/// Every code is the `code` of a MorError in TypeScript, under the same name.
enum class ErrorCode {
  INVALID_CONFIG,
  INVALID_ARGUMENT,
  TOKEN_OUT_OF_RANGE,
  CONTEXT_OVERFLOW,
  CHECKPOINT_INVALID,
  CHECKPOINT_MISSING,
  IO_ERROR,
  OUT_OF_MEMORY,
  NON_FINITE,
  DISPOSED,
  ABORTED,
  DEVICE_UNAVAILABLE,
  DEVICE_NOT_FOUND,
  DEVICE_TOO_OLD,
  INSTRUCTION_SET_UNAVAILABLE,
  DRIVER_MISSING,
  DRIVER_TOO_OLD,
  DEVICE_LOST,
  COMMUNICATION_FAILED,
  INTERNAL,
};

const char* error_code_name(ErrorCode code);
/// The code of that name. Throws INVALID_ARGUMENT if there is none.
ErrorCode error_code_named(const std::string& name);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, const char* file, int line)
      : std::runtime_error(message), code_(code), file_(file), line_(line) {}
  ErrorCode code() const { return code_; }
  const char* file() const { return file_; }
  int line() const { return line_; }

 private:
  ErrorCode code_;
  const char* file_;
  int line_;
};

/// Joins any streamable values into one message.
template <class... Values>
std::string concat(const Values&... values) {
  std::ostringstream out;
  (out << ... << values);
  return out.str();
}

}  // namespace mor

/// MOR_CHECK(rows == expected, INVALID_ARGUMENT, "linear: x has ", rows, " rows, y has ", expected);
#define MOR_CHECK(condition, error_code, ...)            \
  do {                                                   \
    if (!(condition)) MOR_FAIL(error_code, __VA_ARGS__); \
  } while (0)

#define MOR_FAIL(error_code, ...) \
  throw ::mor::Error(::mor::ErrorCode::error_code, ::mor::concat(__VA_ARGS__), __FILE__, __LINE__)
