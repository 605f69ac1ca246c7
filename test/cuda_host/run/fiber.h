// Fiber: a function with its own stack that runs until it suspends itself. AddressSanitizer is told of every switch.
#pragma once

#include <cstddef>

namespace mor::cuda_host {

class Fiber {
 public:
  /// body(argument) must never return: a fiber that has nothing to do suspends itself.
  Fiber(void (*body)(void* argument), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Runs the fiber until it suspends itself. Must not be called on a fiber.
  void resume();
  /// Returns to the caller of resume(). Must be called on this fiber.
  void suspend();

  const char* stack_begin() const;
  const char* stack_end() const;

 private:
  struct Context;
  Context* context_;
};

}  // namespace mor::cuda_host
