// Philox4x32-10 (Salmon et al., SC 2011): counter-based random numbers, the same stream on every device and thread.
// C++17 that compiles for the GPU too.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define MOR_HOST_DEVICE __host__ __device__
#else
#define MOR_HOST_DEVICE
#endif

namespace mor {

struct Philox4 {
  uint32_t v[4];
};

/// Four random words for (seed, stream, counter). Words of different triples are independent.
MOR_HOST_DEVICE inline Philox4 philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// In (0, 1): never 0, so that its logarithm is finite; 24 bits, exact in float.
MOR_HOST_DEVICE inline float uniform_from_bits(uint32_t bits) {
  return (static_cast<float>(bits >> 8) + 0.5f) * (1.0f / 16777216.0f);
}

/// Two standard normals from two words (Box-Muller, in double so that every platform rounds alike to float).
inline void normal_from_bits(uint32_t a, uint32_t b, float* first, float* second) {
  const double u = (static_cast<double>(a) + 0.5) / 4294967296.0, angle = 6.283185307179586 * (b / 4294967296.0);
  const double radius = std::sqrt(-2.0 * std::log(u));
  *first = static_cast<float>(radius * std::cos(angle));
  *second = static_cast<float>(radius * std::sin(angle));
}

}  // namespace mor
