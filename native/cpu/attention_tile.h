// Float tiles of keys and values, and the loops over them that forward and backward share. A tile hides how keys are
// stored: their dtype, their row stride, and whether they lie in one run or in blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/attention_tasks.h"
#include "cpu/lanes.h"
#include "cpu/transpose.h"

namespace mor::MOR_CPU_ISA {

constexpr int64_t kTileKeys = 64, kTileKeyGrain = 4;

constexpr int64_t kSide = kLanes < 8 ? kLanes : 8;  // of the squares of words that are transposed in registers
typedef float Words __attribute__((vector_size(kSide * 4)));
typedef uint32_t WordsU __attribute__((vector_size(kSide * 4)));

/// to[d * stride + i] = element d of v[i]: of a word's one float, or of its two bfloat16, which are transposed in
/// pairs.
inline void store_transposed(Words (&v)[kSide], float* to, int64_t stride, float) {
  transpose(v);
  for (int64_t d = 0; d < kSide; ++d) std::memcpy(to + d * stride, &v[d], sizeof v[d]);
}
inline void store_transposed(Words (&v)[kSide], float* to, int64_t stride, bfloat16) {
  transpose(v);
  for (int64_t d = 0; d < kSide; ++d) {
    const WordsU pair = reinterpret_cast<WordsU>(v[d]), even = pair << 16, odd = pair & 0xffff0000u;
    std::memcpy(to + 2 * d * stride, &even, sizeof even);
    std::memcpy(to + (2 * d + 1) * stride, &odd, sizeof odd);
  }
}

/// Rows of `tensor` that hold keys [first, first + n) of a sequence, for one key head.
template <class T>
void find_keys(const AttentionCall& call, const Tensor& tensor, int64_t sequence, int64_t key_head, int64_t first,
               int64_t n, T** found) {
  const Rows& rows = call.rows;
  const int64_t stride = tensor.row_stride;
  T* head = static_cast<T*>(tensor.data) + key_head * call.head_dim;
  if (rows.block_size == 0) {
    T* at = head + (rows.key_start[sequence] + first) * stride;
    for (int64_t j = 0; j < n; ++j, at += stride) found[j] = at;
    return;
  }
  const int32_t* table = rows.block_table + sequence * rows.blocks_per_list;
  int64_t block = first / rows.block_size, within = first % rows.block_size;
  for (int64_t j = 0; j < n; ++block, within = 0) {
    const int64_t end = std::min(n, j + rows.block_size - within);
    T* at = head + (int64_t{table[block]} * rows.block_size + within) * stride;
    for (; j < end; ++j, at += stride) found[j] = at;
  }
}

/// The addresses of the keys and values of a tile.
template <class T>
struct KeyRows {
  int64_t n = 0;
  const T* key[kTileKeys];    ///< [n], then the last one repeated up to a multiple of kTileKeyGrain
  const T* value[kTileKeys];  ///< [n]

  /// Finds keys [first, first + count).
  void find(const AttentionCall& call, const AttentionTask& task, int64_t first, int64_t count) {
    n = count;
    find_keys(call, call.k, task.sequence, task.key_head, first, n, key);
    find_keys(call, call.v, task.sequence, task.key_head, first, n, value);
    for (int64_t j = n; j % kTileKeyGrain != 0; ++j) key[j] = key[n - 1];
  }
  /// Prefetches `width` elements of each of `count` rows, from row `first` on, into the second-level cache.
  void fetch(const T* const* row, int64_t first, int64_t count, int64_t width) const {
    const int64_t end = std::min(n, first + count);
    for (int64_t j = first; j < end; ++j)
      for (int64_t c = 0; c < width; c += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row[j] + c, 0, 2);
  }
  void fetch_all(int64_t width) const {
    fetch(key, 0, n, width);
    fetch(value, 0, n, width);
  }
};

/// tile[j][c] = element c of row j, and 0 from head_dim to padded_dim.
template <class T>
void load_tile(const T* const* row, int64_t n, const AttentionCall& call, float* tile) {
  for (int64_t j = 0; j < n; ++j)
    for (int64_t c = 0; c < call.padded_dim; c += kLanes) {
      const int64_t left = call.head_dim - c;
      store(tile + j * call.padded_dim + c,
            left >= kLanes ? load(row[j] + c) : (left > 0 ? load_first(row[j] + c, left) : Vec{}));
    }
}

/// tile[c][j] = element c of row j, in kTileKeys columns. The columns from n to the next multiple of kSide are 0.
template <class T>
void load_tile_transposed(const T* const* row, int64_t n, const AttentionCall& call, float* tile) {
  constexpr int64_t kDims = sizeof(Words) / sizeof(T);
  for (int64_t j = 0; j < n; j += kSide)
    for (int64_t c = 0; c < call.head_dim; c += kDims) {
      const int64_t keys = std::min(kSide, n - j), left = std::min(kDims, call.head_dim - c);
      Words v[kSide] = {};
      if (keys == kSide && left == kDims) {
        for (int64_t i = 0; i < kSide; ++i) std::memcpy(&v[i], row[j + i] + c, sizeof v[i]);
      } else {
        for (int64_t i = 0; i < keys; ++i) std::memcpy(&v[i], row[j + i] + c, static_cast<size_t>(left) * sizeof(T));
      }
      store_transposed(v, tile + c * kTileKeys + j, kTileKeys, T{});
    }
}

/// product[l][j] = <x[l], tile column j> for j < n. Values from n to the next multiple of 32 have no meaning. The sum
/// runs over the dims in order for every N.
template <int N>
void multiply_transposed(const float* x, int64_t dims, int64_t x_stride, const float* tile, int64_t n,
                         float (*product)[kTileKeys]) {
  for (int64_t j = 0; j < n; j += 2 * kLanes) {
    Vec sums[N][2] = {};
    for (int64_t c = 0; c < dims; ++c) {
      const Vec a = load(tile + c * kTileKeys + j), b = load(tile + c * kTileKeys + j + kLanes);
      for (int l = 0; l < N; ++l) {
        const Vec value = splat(x[l * x_stride + c]);
        sums[l][0] += value * a;
        sums[l][1] += value * b;
      }
    }
    for (int l = 0; l < N; ++l) {
      store(product[l] + j, sums[l][0]);
      store(product[l] + j + kLanes, sums[l][1]);
    }
  }
}

/// sum[l] += sum over j in [begin, end) of weight[l][j] * tile[j], in the order of j for every N. dims % 32 == 0.
template <int N>
void accumulate(const float (*weight)[kTileKeys], int64_t begin, int64_t end, const float* tile, int64_t dims,
                float* sum) {
  for (int64_t c = 0; c < dims; c += 2 * kLanes) {
    Vec sums[N][2];
    for (int l = 0; l < N; ++l) {
      sums[l][0] = load(sum + l * dims + c);
      sums[l][1] = load(sum + l * dims + c + kLanes);
    }
    for (int64_t j = begin; j < end; ++j) {
      const Vec a = load(tile + j * dims + c), b = load(tile + j * dims + c + kLanes);
      for (int l = 0; l < N; ++l) {
        const Vec value = splat(weight[l][j]);
        sums[l][0] += value * a;
        sums[l][1] += value * b;
      }
    }
    for (int l = 0; l < N; ++l) {
      store(sum + l * dims + c, sums[l][0]);
      store(sum + l * dims + c + kLanes, sums[l][1]);
    }
  }
}

/// to[c] = scale * x[c], and 0 from head_dim to padded_dim.
template <class T>
void load_lane(const T* x, const AttentionCall& call, float scale, float* to) {
  for (int64_t c = 0; c < call.padded_dim; c += kLanes) {
    const int64_t left = call.head_dim - c;
    store(to + c, scale * (left >= kLanes ? load(x + c) : (left > 0 ? load_first(x + c, left) : Vec{})));
  }
}

/// to[c] = x[c] * scale for the head_dim elements of a lane.
template <class T>
void store_lane(const float* x, const AttentionCall& call, float scale, T* to) {
  for_lanes(call.head_dim, [&](int64_t c, auto part) { part.store(to + c, load(x + c) * scale); });
}

}  // namespace mor::MOR_CPU_ISA
