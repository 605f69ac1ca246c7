// ExternalMemory: tells the garbage collector how many bytes outside its heap an object keeps alive.
#pragma once

#include <napi.h>

#include <utility>

namespace mor::binding {

class ExternalMemory {
 public:
  explicit ExternalMemory(Napi::Env env) : env_(env) {}
  ~ExternalMemory() { set(0); }
  ExternalMemory(const ExternalMemory&) = delete;
  ExternalMemory& operator=(const ExternalMemory&) = delete;

  void set(size_t bytes) {
    const auto now = static_cast<int64_t>(bytes);
    int64_t total = 0;
    napi_adjust_external_memory(env_, now - std::exchange(bytes_, now), &total);
  }

 private:
  const Napi::Env env_;
  int64_t bytes_ = 0;
};

}  // namespace mor::binding
