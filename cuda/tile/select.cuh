// Ordered selection by one block: the k-th largest by radix, the first place where a running sum reaches a target, and
// compaction in order. Weights are integers, so that sums do not depend on the order. Must not know of ops.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/tile/reduce.cuh"

namespace mor::cuda {

using Weight = unsigned long long;

/// Threads of a block that selects among n elements. What is selected does not depend on it.
constexpr unsigned kMostSelectThreads = 512;
inline unsigned select_threads(int64_t n) {
  return n >= 4 * kMostSelectThreads ? kMostSelectThreads : n <= 128 ? 32 : static_cast<unsigned>(n / 128 * 32);
}

/// Larger for larger numbers; zeros of both signs are one, NaN counts as -infinity.
__device__ __forceinline__ uint32_t ordered_key(float x) {
  const uint32_t bits = x != x ? 0xff800000u : __float_as_uint(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// Where falling order reaches a target weight: everything with a larger key stays, and of those with this key as many
/// as fill the rest.
struct Cut {
  uint32_t key;
  Weight above;  ///< weight of all larger keys
};

/// Sums of 64 bits in shared memory, two words each: adding to a word there is one instruction, to 64 bits a loop.
struct Histogram {
  static constexpr unsigned bins = 256;
  unsigned low[bins], high[bins];

  __device__ void clear(unsigned bin) { low[bin] = high[bin] = 0; }
  __device__ void add(unsigned bin, Weight weight) {
    const auto word = static_cast<unsigned>(weight);
    const unsigned before = atomicAdd(&low[bin], word);
    const unsigned above = static_cast<unsigned>(weight >> 32) + (before + word < before ? 1u : 0u);
    if (above != 0) atomicAdd(&high[bin], above);
  }
  __device__ Weight operator[](int bin) const { return static_cast<Weight>(high[bin]) << 32 | low[bin]; }
};

/// The largest key such that the elements i < n of at least that key weigh `target` or more, which all of them together
/// do. Four rounds over the elements, 8 bits each. All threads of the block must call it.
template <class Key, class WeightOf>
__device__ Cut find_cut(int64_t n, const Key& key, const WeightOf& weight, Weight target) {
  __shared__ Histogram histogram;
  __shared__ Cut result;
  Cut cut = {0, 0};
  for (int shift = 24; shift >= 0; shift -= 8) {
    __syncthreads();
    for (unsigned bin = threadIdx.x; bin < Histogram::bins; bin += blockDim.x) histogram.clear(bin);
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const uint32_t k = key(i);
      if (shift == 24 || (k >> (shift + 8)) == (cut.key >> (shift + 8))) {
        const Weight w = weight(i);
        if (w != 0) histogram.add(k >> shift & 255, w);
      }
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      // Lane l sums 8 bins, the largest first; the lane in which the target is reached walks them.
      const int top = 255 - 8 * static_cast<int>(threadIdx.x);
      Weight own = 0;
      for (int bin = top; bin > top - 8; --bin) own += histogram[bin];
      Weight before = own;
      for (int offset = 1; offset < 32; offset *= 2) {
        const Weight other = __shfl_up_sync(kAllLanes, before, offset);
        if (static_cast<int>(threadIdx.x) >= offset) before += other;
      }
      before -= own;
      const Weight rest = target - cut.above;
      if (before < rest && before + own >= rest) {
        int bin = top;
        for (; before + histogram[bin] < rest; --bin) before += histogram[bin];
        result = {cut.key | static_cast<uint32_t>(bin) << shift, cut.above + before};
      }
    }
    __syncthreads();
    cut = result;
  }
  return cut;
}

/// The smallest i < n such that the weights of 0 .. i sum up to `target` (at least 1) or more, which all of them
/// together do. All threads of a block of whole warps must call it.
template <class WeightOf>
__device__ int64_t find_in_order(int64_t n, const WeightOf& weight, Weight target) {
  __shared__ Weight of_warp[32];
  __shared__ int64_t result;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  const int64_t stretch = ((n + warps - 1) / warps + 31) / 32 * 32;
  const int64_t begin = warp * stretch, end = begin + stretch < n ? begin + stretch : n;
  Weight own = 0;
  for (int64_t i = begin + lane; i < end; i += 32) own += weight(i);
  own = warp_sum(own);
  __syncthreads();  // result and of_warp of the call before have been read
  if (lane == 0) of_warp[warp] = own;
  __syncthreads();
  Weight before = 0;
  for (int w = 0; w < warp; ++w) before += of_warp[w];
  if (before < target && before + own >= target) {  // in this warp's stretch
    for (int64_t tile = begin;; tile += 32) {
      Weight sum = tile + lane < end ? weight(tile + lane) : 0;
      for (int offset = 1; offset < 32; offset *= 2) {
        const Weight other = __shfl_up_sync(kAllLanes, sum, offset);
        if (lane >= offset) sum += other;
      }
      const unsigned reached = __ballot_sync(kAllLanes, before + sum >= target ? 1 : 0);
      if (reached != 0) {
        if (lane == 0) result = tile + __ffs(static_cast<int>(reached)) - 1;
        break;
      }
      before += __shfl_sync(kAllLanes, sum, 31);
    }
  }
  __syncthreads();
  return result;
}

/// Calls emit(i, at) for every i < n that is chosen, `at` counting them in order, and returns how many there are. All
/// threads of a block of whole warps must call it.
template <class Chosen, class Emit>
__device__ int64_t compact_in_order(int64_t n, const Chosen& chosen, const Emit& emit) {
  __shared__ int of_warp[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t count = 0;
  for (int64_t tile = 0; tile < n; tile += blockDim.x) {
    const int64_t i = tile + threadIdx.x;
    const bool mine = i < n && chosen(i);
    const unsigned votes = __ballot_sync(kAllLanes, mine ? 1 : 0);
    __syncthreads();  // of_warp of the tile before has been read
    if (lane == 0) of_warp[warp] = __popc(votes);
    __syncthreads();
    int before = 0, all = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) {
      if (w < warp) before += of_warp[w];
      all += of_warp[w];
    }
    if (mine) emit(i, count + before + __popc(votes & ((1u << lane) - 1)));
    count += all;
  }
  return count;
}

}  // namespace mor::cuda
