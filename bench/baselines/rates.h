// Repeated timing of one body of work, and the line of JSON that reports it.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

constexpr std::size_t kPage =
    2u << 20;  // one huge page, so that the ceiling has no TLB misses that a good program avoids
constexpr std::size_t kLeastRepeats = 5;

struct Free {
  void operator()(void* pointer) const { std::free(pointer); }
};
using Buffer = std::unique_ptr<void, Free>;

inline Buffer allocate(std::size_t bytes) {
  const std::size_t whole = (bytes + kPage - 1) / kPage * kPage;
  void* pointer = std::aligned_alloc(kPage, whole);
  if (pointer == nullptr) throw std::runtime_error("cannot allocate " + std::to_string(bytes) + " bytes");
  madvise(pointer, whole, MADV_HUGEPAGE);
  return Buffer(pointer);
}

struct Summary {
  double median, min, max;
  std::size_t repeats;
};

inline Summary summarize(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
  return {median, values.front(), values.back(), n};
}

inline double seconds_of(const std::function<void()>& body) {
  const auto before = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
}

// Rates (work per second) of `body`: two calls to warm up, then repeats until there are five and `seconds` have passed.
inline Summary rates(double work, double seconds, const std::function<void()>& body) {
  body();
  body();
  std::vector<double> values;
  for (double passed = 0; values.size() < kLeastRepeats || passed < seconds;) {
    const double taken = seconds_of(body);
    passed += taken;
    values.push_back(work / taken);
  }
  return summarize(std::move(values));
}

inline void print(const char* kind, const std::string& extra, const Summary& s, const char* unit) {
  std::printf("{\"kind\":\"%s\",%s\"median\":%.3f,\"min\":%.3f,\"max\":%.3f,\"repeats\":%zu,\"unit\":\"%s\"}\n", kind,
              extra.c_str(), s.median, s.min, s.max, s.repeats, unit);
  std::fflush(stdout);
}
