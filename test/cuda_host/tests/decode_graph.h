// Devices for tests of decode graphs: one that launches everything itself, and one that tells what it replays.
// Must not know of engines.
#pragma once

#include "cuda/cuda_ops.h"

namespace mor::test {

/// Launches everything itself.
class EagerOps : public cuda::CudaOps {
 public:
  using CudaOps::CudaOps;
  bool records() const override { return false; }
};

/// Of a stage's key: which stage it is, its rows, keys and recursions, for which one recording is kept; behind it come
/// three that say where the stage lies.
inline RecordingKey size_of(const RecordingKey& key) {
  return RecordingKey(key.begin(), key.end() - 3);
}

/// What was replayed, how often its work was called for that, and how many recordings there are.
struct Replays {
  int calls = 0;
  std::vector<RecordingKey> keys;
  int kept = 0, most_kept = 0;
};

class CountedOps : public cuda::CudaOps {
 public:
  CountedOps(Replays& replays, DType compute) : CudaOps(0, compute), replays_(replays) {}
  void replay(std::unique_ptr<Recording>& recording, const RecordingKey& key,
              const std::function<void()>& work) override {
    if (recording == nullptr) recording = std::make_unique<Counted>(replays_);
    replays_.keys.push_back(key);
    CudaOps::replay(static_cast<Counted&>(*recording).graph, key, [&] {
      ++replays_.calls;
      work();
    });
  }

 private:
  struct Counted : Recording {
    explicit Counted(Replays& r) : replays(r) { replays.most_kept = std::max(replays.most_kept, ++replays.kept); }
    ~Counted() override { --replays.kept; }
    Replays& replays;
    std::unique_ptr<Recording> graph;
  };
  Replays& replays_;
};

}  // namespace mor::test
