// Tests of Team: every part runs exactly once; callers at the same time; jobs inside jobs; parts that throw.
#include "core/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mor {
namespace {

TEST(Team, RunsEveryPartOnce) {
  for (const int threads : {1, 2, 3, 7})
    for (const int64_t parts : {0, 1, 2, 5, 64, 1001}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(parts));
      Team::of_process().run(parts, threads, [&](int64_t part, int) { ++runs[static_cast<size_t>(part)]; });
      for (const std::atomic<int>& n : runs) ASSERT_EQ(n, 1) << parts << " parts on " << threads;
    }
}

TEST(Team, ScratchOfAThreadHasOneUser) {
  constexpr int kThreads = 4;
  std::atomic<int> users[kThreads] = {};
  std::atomic<int> clashes{0};
  Team::of_process().run(2000, kThreads, [&](int64_t, int thread) {
    ASSERT_LT(thread, kThreads);
    if (++users[thread] != 1) ++clashes;
    std::this_thread::yield();
    --users[thread];
  });
  EXPECT_EQ(clashes, 0);
}

/// The caller sees what a job's parts wrote once the job returns, and the parts see what the caller wrote before.
TEST(Team, JobsFollowEachOther) {
  std::vector<int64_t> values(64, 0);
  for (int64_t round = 1; round <= 5000; ++round)
    Team::of_process().run(64, 3, [&](int64_t part, int) {
      int64_t& value = values[static_cast<size_t>(part)];
      value = value == round - 1 ? round : -1;
    });
  for (const int64_t value : values) ASSERT_EQ(value, 5000);
}

TEST(Team, CallersAtTheSameTimeDoNotMix) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> wrong{0};
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&wrong, caller] {
      for (int round = 0; round < 500; ++round) {
        std::vector<int> seen(33, -1);
        Team::of_process().run(33, 3, [&](int64_t part, int) { seen[static_cast<size_t>(part)] = caller; });
        for (const int s : seen) wrong += s != caller;
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Team, AJobMayRunInsideAJob) {
  std::atomic<int64_t> sum{0};
  Team::of_process().run(
      8, 4, [&](int64_t i, int) { Team::of_process().run(8, 4, [&](int64_t j, int) { sum += i * 8 + j; }); });
  EXPECT_EQ(sum, 63 * 64 / 2);
}

/// The message of what a job throws, whose parts from `first` to before `last` throw "part <number>".
std::string message_of(int threads, int64_t first, int64_t last, std::atomic<int>& running) {
  try {
    Team::of_process().run(64, threads, [&](int64_t part, int) {
      ++running;
      std::this_thread::yield();
      --running;
      if (part >= first && part < last) throw std::runtime_error("part " + std::to_string(part));
    });
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "nothing";
}

TEST(Team, TheCallerGetsWhatAPartThrew) {
  std::atomic<int> running{0};
  for (int round = 0; round < 200; ++round)
    for (const int threads : {1, 2, 4}) {
      const int64_t part = round % 64;
      ASSERT_EQ(message_of(threads, part, part + 1, running), "part " + std::to_string(part)) << threads << " threads";
      ASSERT_EQ(running, 0) << "a part was still running";
      ASSERT_EQ(message_of(threads, 0, 0, running), "nothing") << "after a part threw";
    }
}

TEST(Team, TheCallerGetsOneErrorWhereEveryPartThrows) {
  std::atomic<int> running{0};
  for (int round = 0; round < 200; ++round) {
    ASSERT_EQ(message_of(4, 0, 64, running).rfind("part ", 0), 0u);
    ASSERT_EQ(running, 0) << "a part was still running";
  }
  std::atomic<int> runs{0};
  Team::of_process().run(1000, 4, [&](int64_t, int) { ++runs; });
  EXPECT_EQ(runs, 1000);
}

/// A job inside a part throws; the outer job's caller gets it.
TEST(Team, AnErrorLeavesAJobInsideAJob) {
  std::atomic<int> running{0};
  EXPECT_THROW(Team::of_process().run(8, 4,
                                      [&](int64_t i, int) {
                                        if (i == 3) throw std::runtime_error(message_of(4, 5, 6, running));
                                      }),
               std::runtime_error);
}

/// Pauses so long that helper threads go to sleep and must be woken.
TEST(Team, WakesHelpersThatSleep) {
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> helped{0};
    std::atomic<int> arrived{0};
    Team::of_process().run(2, 2, [&](int64_t, int thread) {
      if (thread > 0) ++helped;
      ++arrived;
      // The caller's part waits, for a limited time, so that a helper has to take the other part.
      for (int i = 0; arrived < 2 && i < 2000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    EXPECT_EQ(helped, 1);
  }
}

}  // namespace
}  // namespace mor
