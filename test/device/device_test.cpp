// Tests of the list of devices and of the choice of one, on whatever machine they run.
#include "device/device.h"

#include <gtest/gtest.h>

namespace mor::test {
namespace {

ErrorCode code_of(const std::string& device) {
  try {
    make_ops(device, DType::float32, 1);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("device '" + device + "'"), std::string::npos) << error.what();
    return error.code();
  }
  ADD_FAILURE() << device << ": no error";
  return ErrorCode::INTERNAL;
}

TEST(Device, TheCpuComesFirstAndCanBeUsed) {
  const DeviceInfo cpu = list_devices().front();
  EXPECT_EQ(cpu.id, "cpu");
  EXPECT_TRUE(cpu.usable);
  EXPECT_STREQ(make_ops("cpu", DType::bfloat16, 1)->name(), "cpu");
}

TEST(Device, EveryGpuWorksOrSaysWhyNot) {
  const std::vector<DeviceInfo> devices = list_devices();
  ASSERT_GE(devices.size(), 2u);
  for (size_t i = 1; i < devices.size(); ++i) {
    const DeviceInfo& gpu = devices[i];
    EXPECT_EQ(gpu.type, "cuda");
    EXPECT_EQ(gpu.usable, gpu.reason.empty());
    EXPECT_EQ(gpu.usable, gpu.code == ErrorCode::INTERNAL);
    if (gpu.usable) {
      EXPECT_STREQ(make_ops(gpu.id, DType::bfloat16, 0)->name(), "cuda");
    } else {
      EXPECT_EQ(code_of(gpu.id == "cuda" ? "cuda:0" : gpu.id), gpu.code);
    }
  }
}

TEST(Device, AGpuThatIsNotThere) {
  const DeviceInfo first = list_devices()[1];
  EXPECT_EQ(code_of("cuda:97"), first.id == "cuda" ? first.code : ErrorCode::DEVICE_NOT_FOUND);
}

TEST(Device, WhatIsNoDevice) {
  for (const char* name : {"", "tpu", "auto", "cuda", "cuda:", "cuda:x", "cuda:1x", "cuda:99999999999"})
    EXPECT_EQ(code_of(name), ErrorCode::INVALID_ARGUMENT) << name;
}

}  // namespace
}  // namespace mor::test
