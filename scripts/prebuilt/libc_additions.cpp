// What the compiler's static C++ library takes from a glibc newer than 2.31. The symbols are hidden: they serve the
// addon alone.
#include <unistd.h>

#include <cstdint>

extern "C" {

/// "The process may have several threads", which is always true in Node. Otherwise the counters of shared pointers
/// would not be atomic.
char __libc_single_threaded = 0;

/// The source of std::random_device.
uint32_t arc4random() {
  uint32_t value = 0;
  if (getentropy(&value, sizeof value) != 0) __builtin_trap();
  return value;
}
}
