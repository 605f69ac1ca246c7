// Tests of the choice of the instruction set, on whatever machine they run.
#include "cpu/cpu_device.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "device/device.h"

namespace mor::test {
namespace {

/// The environment variable MOR_INSTRUCTION_SET with another value, until the scope ends.
class Forced {
 public:
  explicit Forced(const std::string& set) {
    if (const char* value = std::getenv(kName)) before_ = value;
    setenv(kName, set.c_str(), 1);
  }
  ~Forced() { before_.empty() ? unsetenv(kName) : setenv(kName, before_.c_str(), 1); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;

 private:
  static constexpr const char* kName = "MOR_INSTRUCTION_SET";
  std::string before_;
};

void expect_unavailable(const std::function<void()>& call, const std::vector<std::string>& parts) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INSTRUCTION_SET_UNAVAILABLE);
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << part << " in: " << error.what();
  }
}

TEST(CpuDevice, TheBestInstructionSetUnlessOneIsForced) {
  const std::vector<std::string> sets = cpu_instruction_sets();
  {
    const Forced none("");
    EXPECT_EQ(cpu_instruction_set(), sets.back());
    EXPECT_EQ(list_devices().front().instruction_set, sets.back());
  }
  for (const std::string& set : sets) {
    const Forced forced(set);
    EXPECT_EQ(cpu_instruction_set(), set);
    EXPECT_EQ(list_devices().front().instruction_set, set);
    EXPECT_STREQ(make_ops("cpu", DType::bfloat16, 1)->name(), "cpu");
  }
}

TEST(CpuDevice, ASetThatIsUnknownOrThatTheMachineLacks) {
  const std::vector<std::string> sets = cpu_instruction_sets();
  std::vector<std::string> names{"avx3", "AVX2", "avx2 "};
  for (const char* set : {"avx2", "avx512", "avx512_bf16", "amx", "neon", "neon_bf16"})
    if (std::find(sets.begin(), sets.end(), set) == sets.end()) names.push_back(set);
  for (const std::string& name : names) {
    const Forced forced(name);
    std::vector<std::string> parts{"MOR_INSTRUCTION_SET is '" + name + "'"};
    parts.insert(parts.end(), sets.begin(), sets.end());
    expect_unavailable([] { cpu_instruction_set(); }, parts);
    expect_unavailable([] { make_ops("cpu", DType::float32, 1); }, parts);
    expect_unavailable([&] { make_cpu_ops(DType::float32, 1, name); }, {"'" + name + "'", sets.back()});
    const DeviceInfo cpu = list_devices().front();
    EXPECT_FALSE(cpu.usable);
    EXPECT_EQ(cpu.code, ErrorCode::INSTRUCTION_SET_UNAVAILABLE);
    EXPECT_NE(cpu.reason.find("'" + name + "'"), std::string::npos) << cpu.reason;
    EXPECT_EQ(cpu.instruction_set, "");
  }
}

}  // namespace
}  // namespace mor::test
