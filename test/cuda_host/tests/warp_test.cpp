// Warp operations of the execution model: shuffles and votes with full and partial masks, divergence, and errors of
// wrong masks.
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

constexpr unsigned kAll = 0xffffffffu;

void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int* row = out + lane * 6;
  row[0] = __shfl_sync(kAll, lane * 10, 7);
  row[1] = __shfl_xor_sync(kAll, lane, 5);
  row[2] = __shfl_down_sync(kAll, lane, 3);
  row[3] = __shfl_up_sync(kAll, lane, 3);
  row[4] = __shfl_sync(kAll, lane, 2, 8);
  row[5] = __shfl_down_sync(kAll, lane, 1, 4);
}

TEST(Warp, Shuffles) {
  DeviceArray<int> out(32 * 6);
  EXPECT_EQ(run(shuffles, dim3(1), dim3(32), 0, out.data()), "");
  for (int lane = 0; lane < 32; ++lane) {
    const auto at = [&](int i) { return out[static_cast<size_t>(lane * 6 + i)]; };
    EXPECT_EQ(at(0), 70);
    EXPECT_EQ(at(1), lane ^ 5);
    EXPECT_EQ(at(2), lane + 3 < 32 ? lane + 3 : lane);
    EXPECT_EQ(at(3), lane >= 3 ? lane - 3 : lane);
    EXPECT_EQ(at(4), lane / 8 * 8 + 2);
    EXPECT_EQ(at(5), lane % 4 == 3 ? lane : lane + 1);
  }
}

void butterfly(double* out) {
  double sum = threadIdx.x;
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAll, sum, offset);
  out[threadIdx.x] = sum;
}

TEST(Warp, ManyShufflesOneAfterAnotherInManyWarps) {
  DeviceArray<double> out(128);
  EXPECT_EQ(run(butterfly, dim3(1), dim3(128), 0, out.data()), "");
  for (size_t i = 0; i < 128; ++i) EXPECT_EQ(out[i], 496.0 + 1024.0 * static_cast<double>(i / 32));
}

/// The two halves of the warp take different branches, with different numbers of operations.
void diverge(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int value = lane;
  if (lane < 16) {
    for (int i = 0; i < 3; ++i) value = __shfl_xor_sync(0x0000ffffu, value, 1 << i);
  } else {
    value = static_cast<int>(__ballot_sync(0xffff0000u, lane % 2));
  }
  __syncwarp();
  out[lane] = value + static_cast<int>(__reduce_add_sync(kAll, 1u));
}

TEST(Warp, HalvesDivergeAndMeetAgain) {
  DeviceArray<int> out(32);
  EXPECT_EQ(run(diverge, dim3(1), dim3(32), 0, out.data()), "");
  for (int lane = 0; lane < 32; ++lane)
    EXPECT_EQ(out[static_cast<size_t>(lane)], 32 + (lane < 16 ? lane ^ 7 : static_cast<int>(0xaaaa0000u)));
}

void votes(int* out) {
  out[0] = __any_sync(kAll, threadIdx.x == 9);
  out[1] = __all_sync(kAll, threadIdx.x == 9);
  out[2] = __all_sync(kAll, threadIdx.x < 32);
}

TEST(Warp, Votes) {
  DeviceArray<int> out(3);
  EXPECT_EQ(run(votes, dim3(1), dim3(32), 0, out.data()), "");
  EXPECT_EQ(out[0], 1);
  EXPECT_EQ(out[1], 0);
  EXPECT_EQ(out[2], 1);
}

void some_lanes_never_come() {
  if (threadIdx.x < 10) __syncwarp();
}
void lane_outside_its_mask() {
  __shfl_sync(0x0000ffffu, 1, 0);
}
void reads_outside_the_mask() {
  if (threadIdx.x < 16) __shfl_sync(0x0000ffffu, 1, 20);
}
void different_operations() {
  if (threadIdx.x < 16)
    __shfl_sync(kAll, 1, 0);
  else
    __ballot_sync(kAll, 1);
}
void mask_of_a_whole_warp() {
  __syncwarp();
}

TEST(Warp, WrongMasksAreErrors) {
  EXPECT_EQ(
      run(some_lanes_never_come, dim3(1), dim3(32), 0),
      "deadlock in block (0,0,0): 10 of 32 threads wait for others that never come, 22 have ended; thread (0,0,0) "
      "waits in __syncwarp");
  EXPECT_NE(run(lane_outside_its_mask, dim3(1), dim3(32), 0).find("not in the mask it calls with"), std::string::npos);
  EXPECT_NE(run(reads_outside_the_mask, dim3(1), dim3(32), 0).find("reads from lane 20"), std::string::npos);
  EXPECT_NE(run(different_operations, dim3(1), dim3(32), 0).find("different operations"), std::string::npos);
  EXPECT_NE(run(mask_of_a_whole_warp, dim3(1), dim3(40), 0).find("lanes that the block does not have"),
            std::string::npos);
}

}  // namespace
}  // namespace mor::cuda_host::test
