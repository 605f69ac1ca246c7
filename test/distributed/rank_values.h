// What the operations of a communicator must give, computed by each rank on its own.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "distributed/communicator.h"

namespace mor::test {

/// Number i of a rank: of either sign and of many magnitudes, so that the order of additions shows in the sum.
inline float rank_value(int32_t rank, int64_t i) {
  uint64_t bits = (static_cast<uint64_t>(rank) << 40) + static_cast<uint64_t>(i) + 1;
  for (int round = 0; round < 3; ++round) bits = (bits ^ bits >> 29) * 0xbf58476d1ce4e5b9u;
  const auto mantissa = static_cast<float>(static_cast<int64_t>(bits >> 40) - (int64_t{1} << 23));
  return std::ldexp(mantissa, -static_cast<int>(bits & 15));
}

/// The nearest number of 8 significant bits, the even one of two.
inline float with_8_bits(float value) {
  int exponent;
  const double mantissa = std::frexp(value, &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8));
}

// Each of these checks the result on this rank, and returns its bytes.

inline std::string check_gather(Communicator& ranks) {
  // Some bytes are 0, rank 0 gives none, and those of rank 1 do not fit in one message of any library's small ones.
  const auto given = [](int32_t rank) {
    return std::string(static_cast<size_t>(rank) * 70001, static_cast<char>(rank - 1));
  };
  std::string bytes;
  const std::vector<std::string> all = ranks.gather(given(ranks.rank()));
  EXPECT_EQ(all.size(), static_cast<size_t>(ranks.size()));
  for (int32_t rank = 0; rank < ranks.size(); ++rank) {
    EXPECT_TRUE(all[static_cast<size_t>(rank)] == given(rank)) << "of rank " << rank;
    bytes += all[static_cast<size_t>(rank)];
  }
  return bytes;
}

/// n: numbers of one rank.
inline std::string check_reduce_scatter(Communicator& ranks, int64_t n, DType wire) {
  std::vector<float> values(static_cast<size_t>(n * ranks.size()));
  std::vector<float> sum(static_cast<size_t>(n), NAN);
  for (size_t i = 0; i < values.size(); ++i) values[i] = rank_value(ranks.rank(), static_cast<int64_t>(i));
  const std::vector<float> before = values;
  ranks.reduce_scatter(make_vector(values.data(), DType::float32, n * ranks.size(), "values"),
                       make_vector(sum.data(), DType::float32, n, "sum"), wire);
  ranks.wait();
  EXPECT_TRUE(values == before);
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    float expected = 0;
    for (int32_t rank = 0; rank < ranks.size(); ++rank) {
      const float value = rank_value(rank, ranks.rank() * n + i);
      expected += wire == DType::bfloat16 ? with_8_bits(value) : value;
    }
    if (sum[static_cast<size_t>(i)] != expected) ++wrong;
  }
  EXPECT_EQ(wrong, 0) << "of " << n << " sums of " << dtype_name(wire);
  return {reinterpret_cast<const char*>(sum.data()), sum.size() * sizeof(float)};
}

/// n: elements of one rank.
inline std::string check_all_gather(Communicator& ranks, int64_t n, DType dtype) {
  const size_t piece = static_cast<size_t>(n) * dtype_size(dtype);
  std::string all(piece * static_cast<size_t>(ranks.size()), '?'), expected = all;
  for (int32_t rank = 0; rank < ranks.size(); ++rank) {
    for (size_t i = 0; i < piece; ++i) {
      char* here = &expected[static_cast<size_t>(rank) * piece + i];
      *here = static_cast<char>(i * 7 + (i >> 8) + static_cast<size_t>(rank) * 131);
      if (rank == ranks.rank()) all[static_cast<size_t>(rank) * piece + i] = *here;
    }
  }
  ranks.all_gather(make_vector(all.data(), dtype, n * ranks.size(), "all"));
  ranks.wait();
  EXPECT_TRUE(all == expected) << n << " elements of " << dtype_name(dtype);
  return all;
}

}  // namespace mor::test
