// Fibers by Boost.Context, with the annotations of AddressSanitizer.
#include "test/cuda_host/run/fiber.h"

#include <sanitizer/common_interface_defs.h>
#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <new>

namespace mor::cuda_host {

namespace {

namespace context = boost::context::detail;

// The registers of a kernel are variables on the stack here, and AddressSanitizer pads each of them.
constexpr size_t kStackBytes = size_t{256} << 10;
constexpr size_t kGuardBytes = 4096;

}  // namespace

struct Fiber::Context {
  void (*body)(void*);
  void* argument;
  void* stack;                  ///< guard page, then kStackBytes
  context::fcontext_t inside;   ///< where the fiber continues
  context::fcontext_t outside;  ///< where the caller of resume() continues
  void* inside_fake_stack = nullptr;
  const void* outside_stack = nullptr;
  size_t outside_bytes = 0;

  static void enter(context::transfer_t from) {
    auto* self = static_cast<Context*>(from.data);
    __sanitizer_finish_switch_fiber(nullptr, &self->outside_stack, &self->outside_bytes);
    self->outside = from.fctx;
    self->body(self->argument);
  }
};

Fiber::Fiber(void (*body)(void*), void* argument) : context_(new Context{}) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  context_->body = body;
  context_->argument = argument;
  context_->stack = memory;
  context_->inside =
      context::make_fcontext(static_cast<char*>(memory) + kGuardBytes + kStackBytes, kStackBytes, &Context::enter);
}

Fiber::~Fiber() {
  munmap(context_->stack, kGuardBytes + kStackBytes);
  delete context_;
}

void Fiber::resume() {
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, static_cast<char*>(context_->stack) + kGuardBytes, kStackBytes);
  context_->inside = context::jump_fcontext(context_->inside, context_).fctx;
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fiber::suspend() {
  __sanitizer_start_switch_fiber(&context_->inside_fake_stack, context_->outside_stack, context_->outside_bytes);
  context_->outside = context::jump_fcontext(context_->outside, nullptr).fctx;
  __sanitizer_finish_switch_fiber(context_->inside_fake_stack, &context_->outside_stack, &context_->outside_bytes);
}

const char* Fiber::stack_begin() const {
  return static_cast<char*>(context_->stack) + kGuardBytes;
}
const char* Fiber::stack_end() const {
  return stack_begin() + kStackBytes;
}

}  // namespace mor::cuda_host
