// Staging: the pinned host memory through which bytes go to the device.
#pragma once

#include <array>

#include "cuda/launch.h"

namespace mor::cuda {

/// CUDA copies from pageable memory only when all work before the copy in the stream is done, and the host waits
/// meanwhile. So bytes are first copied here, and CUDA reads them from here whenever it comes to the copy.
class Staging {
 public:
  explicit Staging(Stream& stream);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Puts a copy into the stream. The caller may change `host` after the return. The host waits only while the memory
  /// is full of bytes that the stream has not come to yet. Throws INTERNAL while the stream is captured: a graph would
  /// read the memory again at every launch.
  void copy_to_device(void* device, const void* host, size_t bytes);

 private:
  static constexpr size_t kPieces = 4, kPieceBytes = size_t{1} << 20;

  Stream& stream_;
  char* memory_ = nullptr;             ///< pieces one behind another, which are filled in turn
  std::array<Event, kPieces> copied_;  ///< behind the copies from each piece when it was last left
  size_t piece_ = 0, used_ = 0;        ///< the piece that is being filled, and how many bytes of it are taken
};

}  // namespace mor::cuda
