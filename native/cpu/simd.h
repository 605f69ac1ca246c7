// A vector register of floats by the compiler's vector extensions, so that a loop is written once for AVX2, AVX-512 and
// NEON.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#include "core/dtype.h"

namespace mor::MOR_CPU_ISA {

// The floats of one register, since GCC would keep a wider vector in memory, and how many registers there are.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16, kRegisters = 32;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8, kRegisters = 16;
#else
constexpr int64_t kLanes = 4, kRegisters = 32;
#endif
typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecI __attribute__((vector_size(kLanes * 4)));
typedef uint32_t VecU __attribute__((vector_size(kLanes * 4)));
typedef uint16_t VecH __attribute__((vector_size(kLanes * 2)));

/// 0, 1, 2, …
inline VecI lane_numbers() {
  VecI v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

/// x - 0 is x for every number, so the compiler drops the subtraction. It could not drop 0 + x, since x may be -0.
inline Vec splat(float value) {
  return value - Vec{};
}

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec load(const bfloat16* p) {
#if defined(__AVX512F__)
  const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return reinterpret_cast<Vec>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16));
#else
  VecH h;
  std::memcpy(&h, p, sizeof h);
  return reinterpret_cast<Vec>(__builtin_convertvector(h, VecU) << 16);
#endif
}
inline void store(float* p, Vec v) {
  std::memcpy(p, &v, sizeof v);
}
inline void store(bfloat16* p, Vec v) {
#if defined(__AVX512BF16__)
  const __m256bh h = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  const bfloat16x4_t h = vcvt_bf16_f32(v);
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
#else
  const VecU u = reinterpret_cast<VecU>(v);
  const VecU rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const VecU quiet = (u >> 16) | 0x40u;  // a NaN must not round to infinity
  const VecU is_nan = reinterpret_cast<VecU>(v != v);
  const VecH h = __builtin_convertvector((is_nan & quiet) | (~is_nan & rounded), VecH);
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
#endif
}

/// Accesses the first n < kLanes lanes; the others are 0 (load) or not written (store).
template <class T>
inline Vec load_first(const T* p, int64_t n) {
  T lanes[kLanes] = {};
  std::memcpy(static_cast<void*>(lanes), p, static_cast<size_t>(n) * sizeof(T));
  return load(lanes);
}
template <class T>
inline void store_first(T* p, Vec v, int64_t n) {
  T lanes[kLanes];
  store(lanes, v);
  std::memcpy(static_cast<void*>(p), lanes, static_cast<size_t>(n) * sizeof(T));
}

/// 2 kLanes bfloat16 as floats, split by even and odd index: that takes two cheap instructions, in order it would take
/// four.
struct Halves {
  Vec even, odd;
};
inline Halves split(VecU words) {
  return {reinterpret_cast<Vec>(words << 16), reinterpret_cast<Vec>(words & 0xffff0000u)};
}
inline Halves load_halves(const bfloat16* p) {
  VecU words;
  std::memcpy(&words, p, sizeof words);
  return split(words);
}
/// The first n < 2 kLanes, then zeros.
inline Halves load_first_halves(const bfloat16* p, int64_t n) {
#if defined(__AVX512F__)
  return split(reinterpret_cast<VecU>(_mm512_maskz_loadu_epi16((__mmask32{1} << n) - 1, p)));
#else
  bfloat16 some[2 * kLanes] = {};
  std::memcpy(static_cast<void*>(some), p, static_cast<size_t>(n) * sizeof(bfloat16));
  return load_halves(some);
#endif
}

#if defined(__AVX512BF16__)
/// 2 kLanes bfloat16, of which VDPBF16PS multiplies two neighbours and adds both products to one float.
typedef __m512bh Pairs;
inline Pairs load_pairs(const bfloat16* p) {
  return reinterpret_cast<Pairs>(_mm512_loadu_si512(p));
}
/// The first n < 2 kLanes, then zeros.
inline Pairs load_first_pairs(const bfloat16* p, int64_t n) {
  return reinterpret_cast<Pairs>(_mm512_maskz_loadu_epi16((__mmask32{1} << n) - 1, p));
}
/// The two elements at p, again and again.
inline Pairs splat_pair(const bfloat16* p) {
  int pair;
  std::memcpy(&pair, p, sizeof pair);
  return reinterpret_cast<Pairs>(_mm512_set1_epi32(pair));
}
inline Vec multiply_add(Vec sums, Pairs a, Pairs b) {
  return reinterpret_cast<Vec>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sums), a, b));
}
#endif

inline Vec select(VecI mask, Vec yes, Vec no) {
  return reinterpret_cast<Vec>((mask & reinterpret_cast<VecI>(yes)) | (~mask & reinterpret_cast<VecI>(no)));
}
inline Vec max(Vec a, Vec b) {
  return select(a > b, a, b);
}
inline Vec min(Vec a, Vec b) {
  return select(a < b, a, b);
}

/// The sum of the lanes, always by the same tree.
inline float sum(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#elif defined(__aarch64__)
  return vaddvq_f32(v);
#else
  float x[kLanes];
  store(x, v);
  for (int64_t step = kLanes / 2; step > 0; step /= 2)
    for (int64_t i = 0; i < step; ++i) x[i] += x[i + step];
  return x[0];
#endif
}
inline float largest(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(reinterpret_cast<__m512>(v));
#elif defined(__aarch64__)
  return vmaxvq_f32(v);
#else
  float x[kLanes];
  store(x, v);
  for (int64_t step = kLanes / 2; step > 0; step /= 2)
    for (int64_t i = 0; i < step; ++i) x[i] = x[i] > x[i + step] ? x[i] : x[i + step];
  return x[0];
#endif
}

/// exp to about 2 ulp; 0 below -87.3, saturated above 88 (Cephes-style range reduction by ln 2, degree-6 polynomial).
inline Vec exp(Vec x) {
  const VecI underflow = x < splat(-87.33654f);
  x = min(splat(88.0f), max(splat(-87.33654f), x));                // in this order NaN stays NaN
  const Vec shifted = x * 1.44269504088896f + splat(12582912.0f);  // rounds to the nearest integer in the low bits
  const VecI n = reinterpret_cast<VecI>(shifted) - reinterpret_cast<VecI>(splat(12582912.0f));
  const Vec rounded = shifted - splat(12582912.0f);
  const Vec r = (x - rounded * 0.693359375f) + rounded * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Vec y = p * r * r + r + 1.0f;
  const Vec scaled = y * reinterpret_cast<Vec>((n + 127) << 23);
  return select(underflow, Vec{}, scaled);
}

/// 1 / x for finite x, to about 1 ulp. Where the processor can estimate reciprocals, that and a Newton step are cheaper
/// than a division.
inline Vec reciprocal(Vec x) {
#if defined(__AVX512F__)
  const Vec estimate = reinterpret_cast<Vec>(_mm512_maskz_rcp14_ps(0xffff, reinterpret_cast<__m512>(x)));
  return estimate * (2.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

inline Vec sigmoid(Vec x) {
  return reciprocal(1.0f + exp(-x));
}

inline Vec sqrt(Vec x) {
#if defined(__AVX512F__)
  return reinterpret_cast<Vec>(_mm512_maskz_sqrt_ps(0xffff, reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
  return reinterpret_cast<Vec>(_mm256_sqrt_ps(reinterpret_cast<__m256>(x)));
#else
  return vsqrtq_f32(x);
#endif
}

}  // namespace mor::MOR_CPU_ISA
