// A tile of bfloat16 keys and values that is multiplied without being copied first: with few queries reading the cache
// is most of the work.
#pragma once

#include <type_traits>
#include <utility>

#include "cpu/attention_float.h"
#include "cpu/attention_tile.h"

namespace mor::MOR_CPU_ISA {

/// Scores and weighted values of a few lanes, in float arithmetic, into which two instructions turn a register of
/// bfloat16. Where VDPBF16PS takes two cycles, two multiply-adds of floats take half of its time. A lane's result does
/// not depend on other lanes, and values that it does not see are not read.
class DotTile {
 public:
  static int64_t scratch(const AttentionCall& call) { return kFloatLanes * call.padded_dim; }
  DotTile(const AttentionCall& call, const AttentionTask& task, float* scratch)
      : call_(call), fetched_(fetched_width(call, task)), q_(scratch) {
    const Lanes lanes(call, task.sequence, task.key_head);
    for (int64_t x = 0; x < task.lane_end - task.lane_begin; ++x) {
      const bfloat16* q = lanes.at<const bfloat16>(call.q, task.lane_begin + x);
      for_dims<2>([&](int64_t c, auto steps, auto&& read) {
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
    // The sums of four lanes by four keys need more than 16 registers; those of two lanes fit.
    if constexpr (N * kTileKeyGrain >= kRegisters) {
      scores<N / 2>(x, n, product);
      scores<N - N / 2>(x + N / 2, n, product + N / 2);
      return;
    }
    const int64_t dims = call_.padded_dim;
    for (int64_t j = 0; j < n; j += kTileKeyGrain) {
      if (x == 0) next_->fetch(next_->key, j, kTileKeyGrain, fetched_);
      const bfloat16* const* key = rows_->key + j;
      const float* q = q_ + x * dims;
      Vec sums[N][kTileKeyGrain] = {};
      for_dims<2>([&](int64_t c, auto steps, auto&& read) __attribute__((always_inline)) {
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
    // Beside the sums there must be registers for one row's halves and a factor.
    constexpr int64_t kMostSteps = 4 * N + 5 <= kRegisters ? 2 : 1;
    for_dims<kMostSteps>([&](int64_t c, auto steps, auto&& read) __attribute__((always_inline)) {
      constexpr int64_t kSteps = decltype(steps)::value;
      Vec even[N][kSteps], odd[N][kSteps];
      const auto each = [&](auto&& body) __attribute__((always_inline)) {
        for (int l = 0; l < N; ++l)
          for (int64_t u = 0; u < kSteps; ++u) body(even[l][u], odd[l][u], sum + l * dims + c + u * kWidth);
      };
      each([](Vec& to_even, Vec& to_odd, const float* from) {
        const Vec lower = load(from), upper = load(from + kLanes);
        to_even = shuffled<kEven>(lower, upper);
        to_odd = shuffled<kOdd>(lower, upper);
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
        store(to, shuffled<kLower>(from_even, from_odd));
        store(to + kLanes, shuffled<kUpper>(from_even, from_odd));
      });
    });
  }

 private:
  static constexpr int64_t kWidth = 2 * kLanes;

  /// Calls body(c, steps, read) for `steps` times kWidth dims from c on; read(row) returns the first kWidth of them,
  /// with 0 behind the head. With two steps at a time most heads' rows are read in one go, which memory serves fastest.
  template <int64_t kMostSteps, class Body>
  void for_dims(const Body& body) const {
    const int64_t dims = call_.head_dim;
    int64_t c = 0;
    const auto read = [&c](const bfloat16* row) __attribute__((always_inline)) {
      return load_halves(row + c);
    };
    for (; c + kMostSteps * kWidth <= dims; c += kMostSteps * kWidth)
      body(c, std::integral_constant<int64_t, kMostSteps>{}, read);
    for (; c + kWidth <= dims; c += kWidth) body(c, std::integral_constant<int64_t, 1>{}, read);
    if (c == dims) return;
    body(c, std::integral_constant<int64_t, 1>{},
         [c, dims](const bfloat16* row) { return load_first_halves(row + c, dims - c); });
  }

  /// product[l][j + i] = the sum of the elements of sums[l][i], always by the same tree.
  template <int N>
  static void put_sums(const Vec (&sums)[N][kTileKeyGrain], float (*product)[kTileKeys], int64_t j) {
    // A piece is four floats. Each piece of v[l] holds the sums of the same pieces of the four vectors of lane l; then
    // neighbouring pieces are added until a lane has one.
    Vec v[4] = {};
    for (int l = 0; l < N; ++l) {
      const Vec low = halved(sums[l][0], sums[l][1]), high = halved(sums[l][2], sums[l][3]);
      v[l] = shuffled<kFirstPairs>(low, high) + shuffled<kSecondPairs>(low, high);
    }
    constexpr int64_t kPieces = kLanes / 4;
    if constexpr (kPieces > 1)
#pragma GCC unroll 2
      for (int64_t pieces = kPieces, vectors = 4; pieces > 1; pieces /= 2, vectors /= 2)
#pragma GCC unroll 2
        for (int64_t i = 0; i < vectors / 2; ++i)
          v[i] = shuffled<kEvenPieces>(v[2 * i], v[2 * i + 1]) + shuffled<kOddPieces>(v[2 * i], v[2 * i + 1]);
    alignas(64) float four[4][kTileKeyGrain];
    for (int64_t i = 0; i < 4 / kPieces; ++i) store(four[i * kPieces], v[i]);
    for (int l = 0; l < N; ++l) std::memcpy(product[l] + j, four[l], sizeof four[l]);
  }
  /// In each piece: the sums of a's elements 0 and 2, of b's, of a's elements 1 and 3, of b's.
  static Vec halved(Vec a, Vec b) {
    return shuffled<kFirstInTurn>(a, b) + shuffled<kSecondInTurn>(a, b);
  }

  // Orders of a shuffle of two vectors: the index of each element of its result; indices from kLanes on are in the
  // second one. The first four turn dims in order into dims split by even and odd index and back, the next four work
  // in each piece, and the last two take whole pieces.
  using Order = int (*)(int);
  static constexpr int kSecond = static_cast<int>(kLanes);
  static constexpr Order kEven = [](int i) { return 2 * i; };
  static constexpr Order kOdd = [](int i) { return 2 * i + 1; };
  static constexpr Order kLower = [](int i) { return i / 2 + i % 2 * kSecond; };
  static constexpr Order kUpper = [](int i) { return kSecond / 2 + i / 2 + i % 2 * kSecond; };
  static constexpr Order kFirstInTurn = [](int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * kSecond; };
  static constexpr Order kSecondInTurn = [](int i) { return i / 4 * 4 + 2 + i % 4 / 2 + i % 2 * kSecond; };
  static constexpr Order kFirstPairs = [](int i) { return i / 4 * 4 + i % 2 + i % 4 / 2 * kSecond; };
  static constexpr Order kSecondPairs = [](int i) { return i / 4 * 4 + 2 + i % 2 + i % 4 / 2 * kSecond; };
  static constexpr Order kEvenPieces = [](int i) {
    return 2 * (i / 4) % (kSecond / 4) * 4 + i % 4 + 2 * i / kSecond * kSecond;
  };
  static constexpr Order kOddPieces = [](int i) { return kEvenPieces(i) + 4; };
  template <Order order>
  static Vec shuffled(Vec a, Vec b) {
    return [&]<int... i>(std::integer_sequence<int, i...>) {
      return __builtin_shufflevector(a, b, order(i)...);
    }
    (std::make_integer_sequence<int, static_cast<int>(kLanes)>{});
  }

  const AttentionCall& call_;
  const int64_t fetched_;  ///< elements of each row to prefetch
  float* q_;  ///< [lanes, padded_dim] times the scale; kLanes dims of even index, then kLanes of odd, in turn
  const KeyRows<bfloat16>*rows_ = nullptr, *next_ = nullptr;
};

}  // namespace mor::MOR_CPU_ISA
