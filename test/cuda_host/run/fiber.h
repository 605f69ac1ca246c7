// Fiber: a stack of its own that runs until it suspends; AddressSanitizer is told of every switch.
// Must not know what runs on it.
#pragma once

#include <cstddef>

namespace mor::cuda_host {

class Fiber {
 public:
  /// body(argument) must never return: a fiber that has nothing to do suspends.
  Fiber(void (*body)(void* argument), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs the fiber until it suspends. Called from outside of any fiber.
  void resume();
  /// Back to whoever resumed this fiber. Called on it.
  void suspend();

  const char* stack_begin() const;
  const char* stack_end() const;

 private:
  struct Context;
  Context* context_;
};

}  // namespace mor::cuda_host
