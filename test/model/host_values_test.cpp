// Tests of read_host_values: elements as numbers, from a host copy of a tensor's bytes.
#include "model/host_values.h"

#include <gtest/gtest.h>

#include <complex>
#include <vector>

#include "core/check.h"

namespace mor::test {
namespace {

template <class T>
std::vector<double> read(DType dtype, const std::vector<T>& host) {
  const Tensor tensor = make_vector(nullptr, dtype, static_cast<int64_t>(host.size()), "bias");
  std::vector<double> values(host.size());
  read_host_values(tensor, host.data(), values.data());
  return values;
}

TEST(HostValues, EveryFloatingPointTypeBecomesTheNumbersItHolds) {
  const std::vector<double> expected = {1.5, -0.25};
  EXPECT_EQ(read<float>(DType::float32, {1.5f, -0.25f}), expected);
  EXPECT_EQ(read<double>(DType::float64, {1.5, -0.25}), expected);
  EXPECT_EQ(read<bfloat16>(DType::bfloat16, {bfloat16(1.5f), bfloat16(-0.25f)}), expected);
  EXPECT_EQ(read<std::complex<double>>(DType::complex128, {{1.5, 3.0}, {-0.25, 4.0}}), expected);
}

TEST(HostValues, IndicesAreRefusedWithTheirNameAndType) {
  try {
    read<int32_t>(DType::int32, {1, 2});
    FAIL() << "indices were taken for numbers";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("bias is int32"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mor::test
