// Recordings: a limited number, of which the least recently used is dropped first.
#include "engine/recordings.h"

#include <algorithm>

namespace mor {

namespace {

constexpr size_t kMostRecordings = 64;  // each takes device memory

}  // namespace

void Recordings::replay(const RecordingKey& bucket, const RecordingKey& place, const std::function<void()>& work) {
  std::unique_ptr<Recording>& recording = recording_of(bucket);
  RecordingKey key = bucket;
  key.insert(key.end(), place.begin(), place.end());
  ops_.replay(recording, key, work);
}

std::unique_ptr<Recording>& Recordings::recording_of(const RecordingKey& bucket) {
  auto found = std::find_if(recorded_.begin(), recorded_.end(),
                            [&](const Recorded& recorded) { return recorded.bucket == bucket; });
  if (found == recorded_.end()) {
    if (recorded_.size() == kMostRecordings)
      recorded_.erase(std::min_element(recorded_.begin(), recorded_.end(),
                                       [](const auto& a, const auto& b) { return a.last_used < b.last_used; }));
    recorded_.push_back({bucket, nullptr, 0});
    found = recorded_.end() - 1;
  }
  found->last_used = ++uses_;
  return found->recording;
}

}  // namespace mor
