// A tile of bfloat16 keys and values that is multiplied without being copied first: for few queries, where reading the
// cache is most of the work.
#pragma once

#include <type_traits>

#include "cpu/attention_float.h"
#include "cpu/attention_tile.h"

namespace mor::MOR_CPU_ISA {

#if defined(__AVX512F__)

/// Scores and weighted values of a few lanes, in float arithmetic, since two multiply-adds of floats take half the time
/// of one vdpbf16ps. A lane's result does not depend on other lanes, and values that it does not see are not read.
class DotTile {
 public:
  static int64_t scratch(const AttentionCall& call) { return kFloatLanes * call.padded_dim; }
  DotTile(const AttentionCall& call, const AttentionTask& task, float* scratch)
      : call_(call), fetched_(fetched_width(call, task)), q_(scratch) {
    const Lanes lanes(call, task.sequence, task.key_head);
    for (int64_t x = 0; x < task.lane_end - task.lane_begin; ++x) {
      const bfloat16* q = lanes.at<const bfloat16>(call.q, task.lane_begin + x);
      for_dims([&](int64_t c, auto steps, auto&& read) {
        for (int64_t u = 0; u < steps(); ++u) {
          const Halves halves = read(q + u * kWidth);
          float* to = q_ + x * call.padded_dim + c + u * kWidth;
          store(to, call.scale * halves.even);
          store(to + kLanes, call.scale * halves.odd);
        }
      });
    }
  }

  /// Makes `rows` the current tile and prefetches `next` meanwhile, a little with every key: all at once would fill the
  /// few buffers that the processor has for cache lines under way.
  void take(const KeyRows<bfloat16>& rows, const KeyRows<bfloat16>& next) {
    rows_ = &rows;
    next_ = &next;
  }

  /// product[l][j] = scale * <lane x + l, key j> for j < n. The values from n to the next multiple of kTileKeyGrain
  /// have no meaning.
  template <int N>
  void scores(int64_t x, int64_t n, float (*product)[kTileKeys]) const {
    const int64_t dims = call_.padded_dim;
    for (int64_t j = 0; j < n; j += kTileKeyGrain) {
      if (x == 0) next_->fetch(next_->key, j, kTileKeyGrain, fetched_);
      const bfloat16* const* key = rows_->key + j;
      const float* q = q_ + x * dims;
      Vec sums[N][kTileKeyGrain] = {};
      for_dims([&](int64_t c, auto steps, auto&& read) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int64_t i = 0; i < kTileKeyGrain; ++i)
          for (int64_t u = 0; u < decltype(steps)::value; ++u) {
            const Halves halves = read(key[i] + u * kWidth);
#pragma GCC unroll 4
            for (int l = 0; l < N; ++l) {
              sums[l][i] += halves.even * load(q + l * dims + c + u * kWidth);
              sums[l][i] += halves.odd * load(q + l * dims + c + u * kWidth + kLanes);
            }
          }
      });
      put_sums<N>(sums, product, j);
    }
  }

  /// sum[l] += sum over j in [begin, end) of weight[l][j] * value j, in the order of j.
  template <int N>
  void accumulate(int64_t x, const float (*weight)[kTileKeys], int64_t begin, int64_t end, float* sum) const {
    const int64_t dims = call_.padded_dim;
    const bfloat16* const* value = rows_->value;
    for_dims([&](int64_t c, auto steps, auto&& read) __attribute__((always_inline)) {
      constexpr int64_t kSteps = decltype(steps)::value;
      Vec even[N][kSteps], odd[N][kSteps];
      const auto each = [&](auto&& body) __attribute__((always_inline)) {
        for (int l = 0; l < N; ++l)
          for (int64_t u = 0; u < kSteps; ++u) body(even[l][u], odd[l][u], sum + l * dims + c + u * kWidth);
      };
      each([](Vec& to_even, Vec& to_odd, const float* from) {
        const Vec lower = load(from), upper = load(from + kLanes);
        to_even = permuted(lower, kEven, upper);
        to_odd = permuted(lower, kOdd, upper);
      });
      const bool fetch = x == 0 && c == 0;
      for (int64_t j = begin; j < end; ++j) {
        if (fetch) next_->fetch(next_->value, j, 1, fetched_);
        for (int64_t u = 0; u < kSteps; ++u) {
          const Halves halves = read(value[j] + u * kWidth);
#pragma GCC unroll 4
          for (int l = 0; l < N; ++l) {
            const Vec factor = splat(weight[l][j]);
            even[l][u] += factor * halves.even;
            odd[l][u] += factor * halves.odd;
          }
        }
      }
      each([](Vec from_even, Vec from_odd, float* to) {
        store(to, permuted(from_even, kLower, from_odd));
        store(to + kLanes, permuted(from_even, kUpper, from_odd));
      });
    });
  }

 private:
  static constexpr int64_t kWidth = 2 * kLanes;

  /// 32 bfloat16 as floats, split by even and odd index: that takes two cheap instructions, in order it would take
  /// four.
  struct Halves {
    Vec even, odd;
    explicit Halves(__m512i packed)
        : even(reinterpret_cast<Vec>(_mm512_slli_epi32(packed, 16))),
          odd(reinterpret_cast<Vec>(_mm512_and_si512(packed, _mm512_set1_epi32(static_cast<int32_t>(0xffff0000))))) {}
  };

  /// Calls body(c, steps, read) for `steps` times 32 dims from c on; read(row) returns the first 32 of them, with 0
  /// behind the head. With two steps at a time most heads' rows are read in one go, which memory serves fastest.
  template <class Body>
  void for_dims(const Body& body) const {
    const int64_t dims = call_.head_dim;
    int64_t c = 0;
    const auto read = [&c](const bfloat16* row) __attribute__((always_inline)) {
      return Halves(_mm512_loadu_si512(row + c));
    };
    for (; c + 2 * kWidth <= dims; c += 2 * kWidth) body(c, std::integral_constant<int64_t, 2>{}, read);
    for (; c + kWidth <= dims; c += kWidth) body(c, std::integral_constant<int64_t, 1>{}, read);
    if (c == dims) return;
    const __mmask32 left = (__mmask32{1} << (dims - c)) - 1;
    body(c, std::integral_constant<int64_t, 1>{},
         [c, left](const bfloat16* row) { return Halves(_mm512_maskz_loadu_epi16(left, row + c)); });
  }

  /// product[l][j + i] = the sum of the elements of sums[l][i], always by the same tree.
  template <int N>
  static void put_sums(const Vec (&sums)[N][kTileKeyGrain], float (*product)[kTileKeys], int64_t j) {
    Vec quarter[4] = {};  // quarter[l], element 4 k + i: the sum of elements 4 k to 4 k + 3 of sums[l][i]
    for (int l = 0; l < N; ++l) {
      const Vec low = halved(sums[l][0], sums[l][1]), high = halved(sums[l][2], sums[l][3]);
      const __m512d a = reinterpret_cast<__m512d>(low), b = reinterpret_cast<__m512d>(high);
      quarter[l] = reinterpret_cast<Vec>(_mm512_unpacklo_pd(a, b)) + reinterpret_cast<Vec>(_mm512_unpackhi_pd(a, b));
    }
    const Vec whole = joined(joined(quarter[0], quarter[1]), joined(quarter[2], quarter[3]));
    alignas(64) float four[4][kTileKeyGrain];
    store(four[0], whole);
    for (int l = 0; l < N; ++l) std::memcpy(product[l] + j, four[l], sizeof four[l]);
  }
  static Vec halved(Vec a, Vec b) {
    const __m512 x = reinterpret_cast<__m512>(a), y = reinterpret_cast<__m512>(b);
    return reinterpret_cast<Vec>(_mm512_unpacklo_ps(x, y)) + reinterpret_cast<Vec>(_mm512_unpackhi_ps(x, y));
  }
  /// Sums of neighbouring 16-byte pieces: those of a, then those of b.
  static Vec joined(Vec a, Vec b) {
    const __m512 x = reinterpret_cast<__m512>(a), y = reinterpret_cast<__m512>(b);
    return reinterpret_cast<Vec>(_mm512_shuffle_f32x4(x, y, 0x88)) +
           reinterpret_cast<Vec>(_mm512_shuffle_f32x4(x, y, 0xdd));
  }

  // Permutations between dims in order and dims split by even and odd index; indices from 16 on are in the second
  // register.
  using Order = uint32_t[kLanes];
  alignas(64) static constexpr Order kEven = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
  alignas(64) static constexpr Order kOdd = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
  alignas(64) static constexpr Order kLower = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  alignas(64) static constexpr Order kUpper = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  static Vec permuted(Vec a, const Order& order, Vec b) {
    return reinterpret_cast<Vec>(
        _mm512_permutex2var_ps(reinterpret_cast<__m512>(a), _mm512_load_si512(order), reinterpret_cast<__m512>(b)));
  }

  const AttentionCall& call_;
  const int64_t fetched_;  ///< elements of each row to prefetch
  float* q_;               ///< [lanes, padded_dim] times the scale; 16 dims of even index, then 16 of odd, in turn
  const KeyRows<bfloat16>*rows_ = nullptr, *next_ = nullptr;
};

#endif

}  // namespace mor::MOR_CPU_ISA
