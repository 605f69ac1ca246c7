// Selection by one block: the k-th largest by radix, the first index at which a running sum reaches a target, and
// compaction in order. Weights are integers, so that sums do not depend on their order.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/tile/reduce.cuh"

namespace mor::cuda {

using Weight = unsigned long long;

/// Threads of a block that selects among n elements. The selection does not depend on their number.
constexpr unsigned kMostSelectThreads = 512;
inline unsigned select_threads(int64_t n) {
  return n >= 4 * kMostSelectThreads ? kMostSelectThreads : n <= 128 ? 32 : static_cast<unsigned>(n / 128 * 32);
}

/// A key that is larger for a larger number. Zeros of both signs have the same key, and NaN has that of -infinity.
__device__ __forceinline__ uint32_t ordered_key(float x) {
  const uint32_t bits = x != x ? 0xff800000u : __float_as_uint(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// The key at which the weights, summed in falling order of keys, reach a target: all elements with larger keys are
/// selected, and of those with this key as many as are needed to reach the target.
struct Cut {
  uint32_t key;
  Weight above;  ///< weight of all larger keys
};

/// Sums of 64 bits in shared memory, kept as two words, because an atomic addition to a word is one instruction there
/// and to 64 bits a loop.
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

/// The largest key such that the elements i < n with that key or a larger one weigh `target` or more. The weights of
/// all elements must reach the target. It reads the elements in four rounds, for 8 bits of the key each. All threads of
/// the block must call it.
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
      // Each lane sums 8 bins, from the largest down; the lane in which the target is reached then looks for the bin.
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

/// The smallest i < n such that the weights of elements 0 .. i sum up to `target` (at least 1) or more. The weights of
/// all elements must reach the target. All threads of a block of whole warps must call it.
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
  __syncthreads();  // all threads have read result and of_warp in the call before
  if (lane == 0) of_warp[warp] = own;
  __syncthreads();
  Weight before = 0;
  for (int w = 0; w < warp; ++w) before += of_warp[w];
  if (before < target && before + own >= target) {  // the target is reached in this warp's elements
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

/// Calls emit(i, at) for every chosen i < n, where `at` counts the chosen in order from 0, and returns how many there
/// are. All threads of a block of whole warps must call it.
template <class Chosen, class Emit>
__device__ int64_t compact_in_order(int64_t n, const Chosen& chosen, const Emit& emit) {
  __shared__ int of_warp[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t count = 0;
  for (int64_t tile = 0; tile < n; tile += blockDim.x) {
    const int64_t i = tile + threadIdx.x;
    const bool mine = i < n && chosen(i);
    const unsigned votes = __ballot_sync(kAllLanes, mine ? 1 : 0);
    __syncthreads();  // all threads have read of_warp of the tile before
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
