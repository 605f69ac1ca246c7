// HostRanks and Communicator: what the ranks that train one model together tell each other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace mor {

/// What an error says after the name of a rank that has left.
inline constexpr const char* kWhyLeft =
    "; its own messages say why, or its program has ended although this one goes on";

/// One rank of `size()`. All ranks make the same calls in the same order. A call that fails, because a rank died or the
/// library below reports an error, throws COMMUNICATION_FAILED naming the call and the rank if it is known.
class HostRanks {
 public:
  virtual ~HostRanks() = default;
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;

  /// Leaves the other ranks, and returns at once: calls under way and later ones throw COMMUNICATION_FAILED, here and
  /// on the others. From any thread; does nothing the second time.
  virtual void abandon() = 0;

  /// What every rank gave, by rank; their sizes may differ. Returns when the result is there.
  virtual std::vector<std::string> gather(std::string_view bytes) = 0;

  /// Throws if a rank has left or is lost, for a caller who waits for what these ranks do not see. Returns at once.
  virtual void require_present() = 0;
};

/// Ranks that also have devices.
class Communicator : public HostRanks {
 public:
  // ---- Values in device memory. The calls begin after what the device was told before them and return at once; wait()
  // makes whatever the device is told later come after them (on the CPU: returns when they are done).
  /// values: [size * n]; sum: [n] float32, becomes the sum over the ranks of their values [rank * n, (rank + 1) * n),
  /// in an order that depends on the ranks alone. They travel as `wire` (float32 or bfloat16) and are added in float32.
  virtual void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) = 0;
  /// all: [size * n] of any dtype, of which this rank has written [rank * n, (rank + 1) * n); becomes what every rank
  /// wrote.
  virtual void all_gather(const Tensor& all) = 0;
  virtual void wait() = 0;
};

}  // namespace mor
