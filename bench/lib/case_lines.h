// The lines by which a program says how its cases go; bench/lib/cases.ts reads them.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "core/check.h"

namespace mor::bench {

inline std::string json_string(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return quoted + '"';
}

inline std::string json_numbers(const std::vector<double>& values) {
  std::string list = "[";
  char digits[32];
  for (size_t i = 0; i < values.size(); ++i) {
    std::snprintf(digits, sizeof digits, "%s%.6e", i == 0 ? "" : ",", values[i]);
    list += digits;
  }
  return list + "]";
}

/// A line is flushed, because whatever ends this process must not take it along.
inline void print_line(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

/// Runs body() between the lines {"begin":name} and {"end":name}; if it throws, the latter has "error" too. Answers
/// whether it succeeded. Throws DEVICE_LOST if the body did: then no later case can succeed in this process, and
/// whoever started it goes on behind the case with another one.
inline bool run_case(const std::string& name, const std::function<void()>& body) {
  const std::string quoted = json_string(name);
  print_line("{\"begin\":" + quoted + "}");
  const auto fail = [&](const char* error, bool lost) {
    print_line("{\"end\":" + quoted + ",\"error\":" + json_string(error) + (lost ? ",\"lost\":true}" : "}"));
    MOR_CHECK(!lost, DEVICE_LOST, name, ": ", error);
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error);
    return false;
  };
  try {
    body();
  } catch (const Error& error) {
    return fail(error.what(), error.code() == ErrorCode::DEVICE_LOST);
  } catch (const std::exception& error) {
    return fail(error.what(), false);
  }
  print_line("{\"end\":" + quoted + "}");
  return true;
}

}  // namespace mor::bench
