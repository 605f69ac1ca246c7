// Values from JavaScript into C++, with their types checked, and errors from C++ into JavaScript.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"

namespace mor::binding {

/// A value of JavaScript and the name that messages give it. Every method that turns it into C++ throws an Error of
/// `code` that says what the value is and what is allowed.
class Input {
 public:
  Input(Napi::Value value, std::string name, ErrorCode code = ErrorCode::INVALID_ARGUMENT)
      : value_(value), name_(std::move(name)), code_(code) {}

  bool null() const { return value_.IsNull(); }
  bool undefined() const { return value_.IsUndefined(); }
  Napi::Value value() const { return value_; }
  const std::string& name() const { return name_; }

  /// A finite number in [minimum, maximum].
  double number(double minimum, double maximum) const;
  int64_t integer(int64_t minimum, int64_t maximum) const;
  /// An integer from 0 to the largest that a JavaScript number holds exactly.
  int64_t natural() const { return integer(0, (int64_t{1} << 53) - 1); }
  int32_t int32(int32_t minimum, int32_t maximum) const { return static_cast<int32_t>(integer(minimum, maximum)); }
  bool boolean() const;
  std::string string() const;
  Napi::Function function() const;
  /// A copy of an Int32Array.
  std::vector<int32_t> int32_array() const;
  /// A copy of a Float32Array.
  std::vector<float> float32_array() const;
  /// A copy of a Uint8Array.
  std::string bytes() const;
  std::vector<Input> items() const;
  /// The property of an object.
  Input field(const char* key) const;
  /// One of the names.
  template <class Enum>
  Enum choice(const std::vector<std::pair<const char*, Enum>>& allowed) const {
    const std::string chosen = string();
    std::string names;
    for (const auto& [name, value] : allowed) {
      if (chosen == name) return value;
      names += (names.empty() ? "'" : ", '") + std::string(name) + "'";
    }
    fail("one of " + names);
  }
  /// Throws "<name> must be <expected>, got <what it is>".
  [[noreturn]] void fail(const std::string& expected) const;

 private:
  Napi::Value value_;
  std::string name_;
  ErrorCode code_;
};

/// What went wrong, on any thread, as JavaScript will see it.
struct Failure {
  ErrorCode code = ErrorCode::INTERNAL;
  std::string message;
};
/// In a catch block: the exception. `what` names the work and its sizes, for messages that do not.
Failure current_failure(const std::string& what);
/// An Error object with `code` and `message`.
Napi::Value to_js(Napi::Env env, const Failure& failure);
/// A new typed array, e.g. "Float32Array". Throws OUT_OF_MEMORY where JavaScript cannot have one of `length` elements.
Napi::Value new_typed_array(Napi::Env env, const char* type, size_t length);

/// Runs the body of a function that JavaScript called; an exception becomes a JavaScript one.
template <class Body>
Napi::Value throwing(Napi::Env env, const char* what, const Body& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw Napi::Error(env, to_js(env, current_failure(what)));
  }
}

/// The same for a function that returns a promise: an exception becomes a rejected one.
template <class Body>
Napi::Value rejecting(Napi::Env env, const char* what, const Body& body) {
  const auto rejected = [&](const Napi::Value& error) -> Napi::Value {
    // It is made only here, because one that is never settled stays in memory, with the context of its call.
    const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(error);
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return rejected(error.Value());
  } catch (...) {
    return rejected(to_js(env, current_failure(what)));
  }
}

}  // namespace mor::binding
