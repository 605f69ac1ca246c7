// What a call that must fail says.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/check.h"

namespace mor::test {

/// The message of the Error that `call` throws, which must have this code; "no error" if it throws none.
inline std::string message_of(const std::function<void()>& call, ErrorCode code = ErrorCode::INVALID_ARGUMENT) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

}  // namespace mor::test
