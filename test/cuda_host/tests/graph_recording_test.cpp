// Ops::replay on the GPU: when work is called, when its graph runs instead, and the state after an error.
#include "cuda/graph_recording.h"

#include <gtest/gtest.h>

#include <vector>

#include "cuda/cuda_ops.h"

namespace mor::cuda_host::test {
namespace {

/// Work that doubles a number on the device, and counts its calls.
class GraphRecording : public ::testing::Test {
 protected:
  GraphRecording() : ops_(0, DType::float32), arena_(ops_) {
    value_ = arena_.vector(DType::float32, 1, "value");
    set(1);
  }
  void set(float value) { ops_.copy_to_device(value_.data, &value, sizeof value); }
  float get() {
    float value = 0;
    ops_.copy_to_host(&value, value_.data, sizeof value);
    return value;
  }
  void replay(const RecordingKey& key) {
    ops_.replay(recording_, key, [&] {
      ++calls_;
      ops_.add_rows(value_, nullptr, value_);
      if (in_work_) in_work_();
    });
  }

  cuda::CudaOps ops_;
  Arena arena_;
  Tensor value_;
  int calls_ = 0;
  std::function<void()> in_work_;
  std::unique_ptr<Recording> recording_;
};

TEST_F(GraphRecording, WorkIsCalledTwiceForAKeyAndHappensEveryTime) {
  for (int times = 1; times <= 5; ++times) {
    replay({1, 2});
    EXPECT_EQ(get(), static_cast<float>(1 << times));
    EXPECT_EQ(calls_, std::min(times, 2));
  }
  set(100);
  replay({1, 2});
  EXPECT_EQ(get(), 200) << "the graph reads memory when it is launched";
  EXPECT_EQ(calls_, 2);
}

TEST_F(GraphRecording, AnotherKeyBeginsAnewAndSoDoesTheFormerOne) {
  const std::vector<RecordingKey> keys = {{1}, {1}, {1}, {2}, {1}, {1}, {1}, {1, 0}, {}, {}, {}};
  const std::vector<int> calls = {1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8};
  for (size_t i = 0; i < keys.size(); ++i) {
    replay(keys[i]);
    EXPECT_EQ(calls_, calls[i]) << i;
    EXPECT_EQ(get(), static_cast<float>(2 << i)) << i;
  }
}

struct GivenUp {};

TEST_F(GraphRecording, WhatWorkThrowsIsThrownOnAndLeavesTheStreamUsable) {
  for (const int met : {0, 1}) {
    in_work_ = nullptr;
    recording_.reset();
    set(1);
    for (int i = 0; i < met; ++i) replay({1});
    in_work_ = [] { throw GivenUp{}; };
    EXPECT_THROW(replay({1}), GivenUp);
    in_work_ = nullptr;
    // A captured call did not run; a call without capture did.
    EXPECT_EQ(get(), 2);
    for (int i = 2; i < 5; ++i) {
      replay({1});
      EXPECT_EQ(get(), static_cast<float>(1 << i));
    }
  }
}

TEST_F(GraphRecording, WorkThatWaitsCopiesOrAllocatesCannotBeCapturedAndEndsNoDevice) {
  float host = 0;
  const std::vector<std::function<void()>> forbidden = {
      [&] { ops_.synchronize(); },
      [&] { ops_.copy_to_host(&host, value_.data, sizeof host); },
      [&] { ops_.copy_to_device(value_.data, &host, sizeof host); },
      [&] { ops_.allocate(8); },
  };
  for (const std::function<void()>& call : forbidden) {
    recording_.reset();
    replay({1});
    set(1);
    in_work_ = call;
    try {
      replay({1});
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::INTERNAL);
      EXPECT_NE(std::string(error.what()).find(" cannot be captured: operation not permitted when stream is capturing"),
                std::string::npos)
          << error.what();
    }
    in_work_ = nullptr;
    EXPECT_EQ(get(), 1);
    replay({1});
    replay({1});
    EXPECT_EQ(get(), 4);
  }
}

TEST_F(GraphRecording, WorkGoesOnWithoutAGraphThatFindsNoRoom) {
  replay({1});
  const size_t before = machine().memory_bytes;
  size_t free = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  machine().memory_bytes = total - free;
  replay({1});
  EXPECT_EQ(get(), 4);
  EXPECT_EQ(calls_, 3) << "once for the capture, once without a graph";
  machine().memory_bytes = before;
  replay({1});
  EXPECT_EQ(get(), 8);
  EXPECT_EQ(calls_, 4) << "not captured again";
  for (int i = 0; i < 3; ++i) replay({2});
  EXPECT_EQ(get(), 64);
  EXPECT_EQ(calls_, 6) << "another key is tried again";
}

TEST_F(GraphRecording, OneThatHasJustBeenLaunchedMayGo) {
  for (int i = 0; i < 3; ++i) replay({1});
  recording_.reset();
  EXPECT_EQ(get(), 8);
}

void stuck() {
  if (threadIdx.x == 0) __syncthreads();
}

TEST_F(GraphRecording, AKernelThatFailsInAGraphLosesTheDevice) {
  bool fails = false;
  in_work_ = [&] {
    if (fails) cuda::launch(stuck, dim3(1), dim3(32), 0, ops_.stream());
  };
  replay({1});
  fails = true;
  EXPECT_THROW(replay({1}), Error);
  try {
    ops_.synchronize();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::DEVICE_LOST);
  }
  recording_.reset();
  revive_device();
}

}  // namespace
}  // namespace mor::cuda_host::test
