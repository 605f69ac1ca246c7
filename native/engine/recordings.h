// Recordings: those of a device's work that are worth keeping, by what they are for. Must not know what the work is.
#pragma once

#include <memory>
#include <vector>

#include "ops/ops.h"

namespace mor {

class Recordings {
 public:
  explicit Recordings(Ops& ops) : ops_(ops) {}

  /// Does what work() does, by Ops::replay. bucket: the work's sizes, for which one recording is kept; place: what else
  /// work depends on, such as addresses, which make it another one.
  void replay(const RecordingKey& bucket, const RecordingKey& place, const std::function<void()>& work);

 private:
  struct Recorded {
    RecordingKey bucket;
    std::unique_ptr<Recording> recording;
    uint64_t last_used;
  };
  std::unique_ptr<Recording>& recording_of(const RecordingKey& bucket);

  Ops& ops_;
  std::vector<Recorded> recorded_;
  uint64_t uses_ = 0;
};

}  // namespace mor
