// Devices for tests of decode graphs: one without graphs, and one that counts what it replays.
#pragma once

#include "cuda/cuda_ops.h"

namespace mor::test {

/// Records nothing, so that every kernel is launched by itself.
class EagerOps : public cuda::CudaOps {
 public:
  using CudaOps::CudaOps;
  bool records() const override { return false; }
};

/// The part of a stage's key by which one recording is kept: the stage, its rows, its keys and its recursions. The last
/// three entries of the key say where the stage's memory lies.
inline RecordingKey size_of(const RecordingKey& key) {
  return RecordingKey(key.begin(), key.end() - 3);
}

/// The keys of all replays, how often work was called for them, and how many recordings there are.
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
