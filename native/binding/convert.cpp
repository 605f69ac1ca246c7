// The checks of Input, and the messages of exceptions.
#include "binding/convert.h"

#include <cmath>
#include <cstring>
#include <new>

namespace mor::binding {

namespace {

/// Without calling anything of the value's own.
std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number:
      return concat(value.As<Napi::Number>().DoubleValue());
    case napi_string: {
      constexpr size_t kLongest = 80;
      const std::string text = value.As<Napi::String>().Utf8Value();
      return "'" + (text.size() <= kLongest ? text : text.substr(0, kLongest) + "…") + "'";
    }
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a BigInt";
    default:
      return value.IsArray() ? "an array" : value.IsTypedArray() ? "a typed array of another type" : "an object";
  }
}

const char* file_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

}  // namespace

void Input::fail(const std::string& expected) const {
  throw Error(code_, concat(name_, " must be ", expected, ", got ", describe(value_)), __FILE__, __LINE__);
}

double Input::number(double minimum, double maximum) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  if (std::isfinite(number) && number >= minimum && number <= maximum) return number;
  fail(concat("a number from ", minimum, " to ", maximum));
}

int64_t Input::integer(int64_t minimum, int64_t maximum) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  if (number == std::floor(number) && number >= static_cast<double>(minimum) && number <= static_cast<double>(maximum))
    return static_cast<int64_t>(number);
  fail(concat("an integer from ", minimum, " to ", maximum));
}

bool Input::boolean() const {
  if (!value_.IsBoolean()) fail("true or false");
  return value_.As<Napi::Boolean>().Value();
}

std::string Input::string() const {
  if (!value_.IsString()) fail("a string");
  return value_.As<Napi::String>().Utf8Value();
}

Napi::Function Input::function() const {
  if (!value_.IsFunction()) fail("a function");
  return value_.As<Napi::Function>();
}

std::vector<int32_t> Input::int32_array() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    fail("an Int32Array");
  const auto array = value_.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<float> Input::float32_array() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
    fail("a Float32Array");
  const auto array = value_.As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::string Input::bytes() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    fail("a Uint8Array");
  const auto array = value_.As<Napi::Uint8Array>();
  return {reinterpret_cast<const char*>(array.Data()), array.ElementLength()};
}

std::vector<Input> Input::items() const {
  if (!value_.IsArray()) fail("an array");
  const auto array = value_.As<Napi::Array>();
  std::vector<Input> items;
  for (uint32_t i = 0; i < array.Length(); ++i) items.emplace_back(array.Get(i), concat(name_, "[", i, "]"), code_);
  return items;
}

Input Input::field(const char* key) const {
  if (!value_.IsObject()) fail("an object");
  return {value_.As<Napi::Object>().Get(key), name_ + "." + key, code_};
}

Failure current_failure(const std::string& what) {
  try {
    throw;
  } catch (const Error& error) {
    const bool ours = error.code() == ErrorCode::INTERNAL;
    return {error.code(), ours ? concat(error.what(), " (", file_name(error.file()), ":", error.line(), ")")
                               : std::string(error.what())};
  } catch (const std::bad_alloc&) {
    return {ErrorCode::OUT_OF_MEMORY, "out of memory: " + what};
  } catch (const std::exception& error) {
    return {ErrorCode::INTERNAL, what + ": " + error.what()};
  } catch (...) {
    return {ErrorCode::INTERNAL, what + " failed with an unknown exception"};
  }
}

Napi::Value to_js(Napi::Env env, const Failure& failure) {
  const Napi::Value error = Napi::Error::New(env, failure.message).Value();
  error.As<Napi::Object>().Set("code", error_code_name(failure.code));
  return error;
}

Napi::Value new_typed_array(Napi::Env env, const char* type, size_t length) {
  // The constructor of JavaScript throws where napi_create_arraybuffer would end the process.
  try {
    return env.Global().Get(type).As<Napi::Function>().New({Napi::Number::New(env, static_cast<double>(length))});
  } catch (const Napi::Error& error) {
    MOR_FAIL(OUT_OF_MEMORY, "JavaScript cannot have a ", type, " of ", length, " elements: ", error.Message());
  }
}

}  // namespace mor::binding
