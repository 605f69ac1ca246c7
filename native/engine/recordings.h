// Recordings: the recordings of a device's work (Ops::replay) that are kept, one for each size of the work.
#pragma once

#include <memory>
#include <vector>

#include "ops/ops.h"

namespace mor {

class Recordings {
 public:
  explicit Recordings(Ops& ops) : ops_(ops) {}

  /// Does what work() does, by Ops::replay. bucket: the sizes of the work; for each, one recording is kept. place: what
  /// else the work depends on, such as addresses; if it changes, the recording is made anew.
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
