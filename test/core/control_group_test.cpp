// Tests of the limits of control groups of both versions, on folders that look like theirs.
#include "core/control_group.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace mor::test {
namespace {

class ControlGroup : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "mor-control-group-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void place(const std::string& file, const std::string& content) {
    const std::filesystem::path path = std::filesystem::path(root_) / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << content;
  }
  ControlGroupLimits limits(const std::string& membership) { return control_group_limits(membership, root_); }

  std::string root_;
};

constexpr size_t kNoBytes = std::numeric_limits<size_t>::max();

TEST_F(ControlGroup, TheLeastOfTheGroupAndThoseAroundIt) {
  place("a/cpu.max", "150000 100000\n");
  place("a/b/cpu.max", "400000 100000\n");
  place("a/b/c/cpu.max", "max 100000\n");
  place("a/memory.max", "max\n");
  place("a/b/memory.max", "3000000\n");
  place("a/b/c/memory.max", "5000000\n");
  EXPECT_EQ(limits("0::/a/b/c\n").processors, 1.5);
  EXPECT_EQ(limits("0::/a/b/c\n").memory_bytes, 3000000u);
  EXPECT_EQ(limits("0::/a\n").processors, 1.5);
  EXPECT_EQ(limits("0::/a\n").memory_bytes, kNoBytes);
  place("a/b/c/cpu.max", "50000 100000\n");
  EXPECT_EQ(limits("0::/a/b/c\n").processors, 0.5);
}

TEST_F(ControlGroup, TheFirstVersion) {
  place("cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n");
  place("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  place("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  place("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  place("memory/y/memory.limit_in_bytes", "1048576\n");
  place("memory/memory.limit_in_bytes", "9223372036854771712\n");
  const ControlGroupLimits both = limits("4:memory:/y\n2:cpu,cpuacct:/x\n0::/x\n");
  EXPECT_EQ(both.processors, 3);
  EXPECT_EQ(both.memory_bytes, 1048576u);
  EXPECT_TRUE(std::isinf(limits("2:cpu,cpuacct:/\n").processors));
  EXPECT_EQ(limits("2:cpu,cpuacct:/x\n4:memory:/gone\n").memory_bytes, 9223372036854771712u);
  place("cpuset/x/cpu.max", "100000 100000\n");
  EXPECT_TRUE(std::isinf(limits("3:cpuset:/x\n").processors)) << "a controller whose name begins alike";
}

TEST_F(ControlGroup, NoLimits) {
  place("cpu.max", "max 100000\n");
  place("memory.max", "max\n");
  for (const char* membership : {"0::/\n", "0::/gone:with:colons\n", "", "nonsense", "1:cpu"}) {
    EXPECT_TRUE(std::isinf(limits(membership).processors)) << membership;
    EXPECT_EQ(limits(membership).memory_bytes, kNoBytes) << membership;
  }
  EXPECT_TRUE(std::isinf(control_group_limits("0::/\n", root_ + "/gone").processors));
}

TEST_F(ControlGroup, AContainerWhosePathIsThatOfTheMachine) {
  place("cpu.max", "200000 100000\n");
  place("memory.max", "4096\n");
  EXPECT_EQ(limits("0::/docker/0123\n").processors, 2);
  EXPECT_EQ(limits("0::/docker/0123\n").memory_bytes, 4096u);
}

TEST_F(ControlGroup, NothingOutsideTheMount) {
  place("cpu.max", "100000 100000\n");
  place("a/memory.max", "max\n");
  EXPECT_TRUE(std::isinf(control_group_limits("0::/../..\n", root_ + "/a").processors));
  EXPECT_EQ(limits("0::/\n").processors, 1);
}

TEST_F(ControlGroup, OfThisProcess) {
  EXPECT_GT(control_group_limits().processors, 0);
  EXPECT_GT(control_group_limits().memory_bytes, 0u);
}

}  // namespace
}  // namespace mor::test
