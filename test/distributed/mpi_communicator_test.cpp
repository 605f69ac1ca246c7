// Tests of the communicator over MPI, on a library whose ranks are threads: results, and everything that can go wrong.
#include "distributed/mpi_communicator.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <thread>

#include "test/distributed/fake_mpi.h"
#include "test/distributed/rank_values.h"
#include "test/error_message.h"

namespace mor::test {
namespace {

using std::chrono::milliseconds;

::testing::AssertionResult says(const std::string& message, const std::string& part) {
  if (message.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << message << "' does not say '" << part << "'";
}

/// Runs `body` as every rank at once, each on a thread; what the ranks throw, by rank, or "no error".
using Body = std::function<void(int32_t rank, MpiThread& thread)>;
std::vector<std::string> run(FakeMpi& fake, MpiFamily family, int32_t ranks, const JoinOptions& options,
                             const Body& body) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      MpiThread thread(make_mpi(fake.symbols(rank), "libfake.so"), {"the test", {family}, rank, ranks}, options);
      errors[static_cast<size_t>(rank)] = message_of(
          [&] {
            thread.wait_for_ranks();
            body(rank, thread);
          },
          ErrorCode::COMMUNICATION_FAILED);
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::vector<std::string> no_errors(int32_t ranks) {
  return std::vector<std::string>(static_cast<size_t>(ranks), "no error");
}

struct Layout {
  MpiFamily family;
  int32_t ranks;
};

class MpiCommunicatorOfEachFamily : public ::testing::TestWithParam<Layout> {
 protected:
  /// Runs `body` with one communicator a rank. Nothing must fail or be left over.
  void run_all(const std::function<void(Communicator&)>& body) {
    const auto [family, ranks] = GetParam();
    FakeMpi fake(family, ranks);
    EXPECT_EQ(run(fake, family, ranks, {},
                  [&](int32_t rank, MpiThread& thread) {
                    const auto communicator = make_mpi_communicator(thread);
                    EXPECT_EQ(communicator->rank(), rank);
                    EXPECT_EQ(communicator->size(), ranks);
                    body(*communicator);
                  }),
              no_errors(ranks));
    EXPECT_EQ(fake.finalized(), ranks);
    EXPECT_EQ(fake.aborted(), 0);
    EXPECT_EQ(fake.left_over(), 0u);
  }
};

INSTANTIATE_TEST_SUITE_P(, MpiCommunicatorOfEachFamily,
                         ::testing::Values(Layout{MpiFamily::open_mpi, 2}, Layout{MpiFamily::open_mpi, 4},
                                           Layout{MpiFamily::mpich, 2}, Layout{MpiFamily::mpich, 3}),
                         [](const auto& info) {
                           return std::string(info.param.family == MpiFamily::mpich ? "mpich_" : "open_mpi_") +
                                  std::to_string(info.param.ranks);
                         });

TEST_P(MpiCommunicatorOfEachFamily, GathersBytesOfDifferentSizes) {
  run_all([](Communicator& ranks) { check_gather(ranks); });
}

TEST_P(MpiCommunicatorOfEachFamily, ScattersTheSumInTheOrderOfTheRanks) {
  run_all([](Communicator& ranks) {
    for (const DType wire : {DType::float32, DType::bfloat16})
      for (const int64_t n : {0, 1, 1000, 20000}) check_reduce_scatter(ranks, n, wire);
  });
}

TEST_P(MpiCommunicatorOfEachFamily, GathersEveryType) {
  run_all([](Communicator& ranks) {
    for (const DType dtype : {DType::float32, DType::bfloat16, DType::int32, DType::uint8})
      for (const int64_t n : {0, 1, 3001}) check_all_gather(ranks, n, dtype);
  });
}

TEST_P(MpiCommunicatorOfEachFamily, RunsCallsInTheirOrder) {
  run_all([](Communicator& ranks) {
    // Each call reads what the one before writes, and no call is waited for but the last.
    const int64_t n = 5, all = n * ranks.size();
    std::vector<float> first(static_cast<size_t>(all), 1), second(static_cast<size_t>(all));
    Tensor values = make_vector(first.data(), DType::float32, all, "values");
    Tensor sums = make_vector(second.data(), DType::float32, all, "sums");
    for (int i = 0; i < 4; ++i) {
      ranks.reduce_scatter(values, sums.slice(ranks.rank() * n, n), DType::float32);
      ranks.all_gather(sums);
      std::swap(values, sums);
    }
    ranks.wait();
    EXPECT_EQ(first, std::vector<float>(first.size(), static_cast<float>(std::pow(ranks.size(), 4))));
  });
}

constexpr Layout kTwo{MpiFamily::open_mpi, 2}, kThree{MpiFamily::mpich, 3};

TEST(MpiCommunicator, SumsIntoItsOwnValues) {
  FakeMpi fake(kThree.family, 3);
  EXPECT_EQ(run(fake, kThree.family, 3, {},
                [&](int32_t rank, MpiThread& thread) {
                  const auto ranks = make_mpi_communicator(thread);
                  std::vector<float> values(3 * 2000);
                  for (size_t i = 0; i < values.size(); ++i)
                    values[i] = static_cast<float>(i) + static_cast<float>(rank);
                  const Tensor all = make_vector(values.data(), DType::float32, 6000, "values");
                  ranks->reduce_scatter(all, all.slice(rank * 2000, 2000), DType::float32);
                  ranks->wait();
                  for (int64_t i = rank * 2000; i < (rank + 1) * 2000; ++i)
                    ASSERT_EQ(values[static_cast<size_t>(i)], static_cast<float>(3 * i + 3));
                }),
            no_errors(3));
}

TEST(MpiCommunicator, RoundsToTheNearestEvenBfloat16) {
  FakeMpi fake(kTwo.family, 2);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(run(fake, kTwo.family, 2, {},
                [&](int32_t rank, MpiThread& thread) {
                  const auto ranks = make_mpi_communicator(thread);
                  // bfloat16 has 8 bits of precision, so 257 and 259 lie between two of its numbers.
                  const float given[] = {257, 259, -257, 258.5f, infinity, std::nanf("")};
                  const float rounded[] = {256, 260, -256, 258, infinity, std::nanf("")};
                  std::vector<float> values(12, 0), sum(6);
                  // Only one rank's values are not 0; each rank receives those of both in turn.
                  if (rank == 0) std::memcpy(values.data(), given, sizeof given);
                  if (rank == 0) std::memcpy(values.data() + 6, given, sizeof given);
                  ranks->reduce_scatter(make_vector(values.data(), DType::float32, 12, "values"),
                                        make_vector(sum.data(), DType::float32, 6, "sum"), DType::bfloat16);
                  ranks->wait();
                  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(sum[i], rounded[i]) << i;
                  EXPECT_TRUE(std::isnan(sum[5]));
                }),
            no_errors(2));
}

TEST(MpiCommunicator, OneFollowsAnother) {
  FakeMpi fake(kTwo.family, 2);
  EXPECT_EQ(
      run(fake, kTwo.family, 2, {},
          [&](int32_t rank, MpiThread& thread) {
            for (int i = 0; i < 3; ++i) {
              if (i == rank) std::this_thread::sleep_for(milliseconds(30));  // One rank is there long before.
              const auto ranks = make_mpi_communicator(thread);
              EXPECT_TRUE(says(message_of([&] { make_mpi_communicator(thread); }, ErrorCode::COMMUNICATION_FAILED),
                               "has joined the other ranks already"));
              ASSERT_EQ(ranks->gather(std::to_string(rank)), (std::vector<std::string>{"0", "1"}));
            }
          }),
      no_errors(2));
  EXPECT_EQ(fake.finalized(), 2);
}

TEST(MpiCommunicator, ChecksTensors) {
  FakeMpi fake(kTwo.family, 2);
  EXPECT_EQ(run(fake, kTwo.family, 2, {},
                [&](int32_t, MpiThread& thread) {
                  const auto ranks = make_mpi_communicator(thread);
                  std::vector<float> memory(8);
                  const auto vector = [&](int64_t n, DType dtype = DType::float32) {
                    return make_vector(memory.data(), dtype, n, "numbers");
                  };
                  EXPECT_TRUE(says(message_of([&] { ranks->reduce_scatter(vector(7), vector(3), DType::float32); }),
                                   "numbers must have 2 times the 3 elements of numbers, but has 7"));
                  EXPECT_TRUE(says(
                      message_of([&] { ranks->reduce_scatter(vector(4, DType::bfloat16), vector(2), DType::float32); }),
                      "numbers is bfloat16"));
                  EXPECT_TRUE(says(message_of([&] { ranks->reduce_scatter(vector(4), vector(2), DType::int32); }),
                                   "not as int32"));
                  EXPECT_TRUE(says(message_of([&] { ranks->all_gather(vector(7)); }),
                                   "7 elements, which are not the equal pieces of 2 ranks"));
                  EXPECT_EQ(ranks->gather("").size(), 2u);  // It works on.
                }),
            no_errors(2));
}

TEST(MpiCommunicator, NamesCallsThatDiffer) {
  FakeMpi fake(kTwo.family, 2);
  const auto errors = run(fake, kTwo.family, 2, {}, [&](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    std::vector<float> all(8);
    if (rank == 0) ranks->gather("four");
    ranks->all_gather(make_vector(all.data(), DType::float32, 8, "all"));
    ranks->wait();
  });
  EXPECT_TRUE(says(errors[0],
                   "gather: operation 1 of rank 0 is gather, 4 bytes, but operation 1 of rank 1 is "
                   "all_gather of float32, 32 bytes"));
  EXPECT_TRUE(says(errors[1], "operation 1 of rank 1 is all_gather of float32, 32 bytes, but operation 1 of rank 0"));

  FakeMpi second(kTwo.family, 2);
  const auto sizes = run(second, kTwo.family, 2, {}, [&](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    std::vector<float> all(8);
    ranks->all_gather(make_vector(all.data(), DType::float32, rank == 0 ? 8 : 6, "all"));
    ranks->wait();
  });
  EXPECT_TRUE(says(sizes[0], "32 bytes, but operation 1 of rank 1 is all_gather of float32, 24 bytes"));
}

TEST(MpiCommunicator, NamesTheRankThatHasLeft) {
  FakeMpi fake(kThree.family, 3);
  const auto errors = run(fake, kThree.family, 3, {}, [&](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    ranks->gather("all are here");
    MOR_CHECK(rank != 1, COMMUNICATION_FAILED, "a trouble of rank 1");
    std::vector<float> all(9);
    ranks->all_gather(make_vector(all.data(), DType::float32, 9, "all"));
    const std::string first = message_of([&] { ranks->wait(); }, ErrorCode::COMMUNICATION_FAILED);
    EXPECT_TRUE(says(first, "all_gather: rank 1 has left after 1 operation"));
    ranks->gather("");
  });
  EXPECT_EQ(errors[1], "a trouble of rank 1");
  for (const int rank : {0, 2}) EXPECT_TRUE(says(errors[static_cast<size_t>(rank)], "rank 1 has left"));
  // All ranks are there until the end, so none has to be ended.
  EXPECT_EQ(fake.finalized(), 3);
  EXPECT_EQ(fake.aborted(), 0);
}

TEST(MpiCommunicator, MayLeaveAtOnceAfterTheLastCall) {
  FakeMpi fake(kTwo.family, 2);
  EXPECT_EQ(run(fake, kTwo.family, 2, {},
                [&](int32_t rank, MpiThread& thread) {
                  for (int i = 0; i < 20; ++i) {
                    std::vector<float> all(2 * 5000, static_cast<float>(rank));
                    const auto ranks = make_mpi_communicator(thread);
                    ranks->all_gather(make_vector(all.data(), DType::float32, 2 * 5000, "all"));
                    ranks->wait();
                    ASSERT_EQ(all[5000], 1);
                  }
                }),
            no_errors(2));
}

TEST(MpiCommunicator, GivesUpWhatWasNotWaitedFor) {
  FakeMpi fake(kTwo.family, 2);
  const auto errors = run(fake, kTwo.family, 2, {}, [&](int32_t rank, MpiThread& thread) {
    std::vector<float> all(2 * 5000);
    auto ranks = make_mpi_communicator(thread);
    if (rank == 0) ranks->all_gather(make_vector(all.data(), DType::float32, 2 * 5000, "all"));
    if (rank == 1) std::this_thread::sleep_for(milliseconds(50));
    ranks.reset();  // The memory goes too: AddressSanitizer would see a late access.
    all = {};
    if (rank == 0) make_mpi_communicator(thread);
  });
  EXPECT_TRUE(says(errors[0], "all_gather: this rank left before the operation was finished"));
  EXPECT_EQ(errors[1], "no error");
}

TEST(MpiCommunicator, MayBeAbandonedWhileItIsWaitedFor) {
  FakeMpi fake(kTwo.family, 2);
  std::atomic<bool> failed = false;
  const auto errors = run(fake, kTwo.family, 2, {}, [&](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    if (rank == 0) {
      // Rank 1 makes no call before this one has failed.
      std::thread other([&] { ranks->abandon(); });
      const std::string error = message_of([&] { ranks->gather("x"); }, ErrorCode::COMMUNICATION_FAILED);
      other.join();
      failed = true;
      ranks->abandon();
      EXPECT_TRUE(says(error, "gather: this rank"));
      EXPECT_NE(message_of([&] { ranks->gather("x"); }, ErrorCode::COMMUNICATION_FAILED), "no error");
    } else {
      while (!failed) std::this_thread::sleep_for(milliseconds(1));
      ranks->gather("x");
    }
  });
  EXPECT_EQ(errors[0], "no error");
  EXPECT_TRUE(says(errors[1], "gather: rank 0 has left after 0 operations"));
  EXPECT_EQ(fake.finalized(), 2);
}

TEST(MpiCommunicator, OneThatWasAbandonedMakesWayForAnother) {
  FakeMpi fake(kTwo.family, 2);
  EXPECT_EQ(run(fake, kTwo.family, 2, {},
                [&](int32_t, MpiThread& thread) {
                  const auto first = make_mpi_communicator(thread);
                  ASSERT_EQ(first->gather("x").size(), 2u);
                  first->abandon();
                  const auto second = make_mpi_communicator(thread);
                  EXPECT_TRUE(says(message_of([&] { first->gather("x"); }, ErrorCode::COMMUNICATION_FAILED),
                                   "gather: this rank has left the other ranks"));
                  ASSERT_EQ(second->gather("x").size(), 2u);
                }),
            no_errors(2));
}

TEST(MpiCommunicator, NamesTheRankThatIsSilentAndWaitsForOneThatComputes) {
  FakeMpi fake(kThree.family, 3);
  JoinOptions options;
  options.silence_seconds = 1;
  std::atomic<int> failed = 0;
  const auto wait_for_failures = [&](int count) {
    while (failed < count) std::this_thread::sleep_for(milliseconds(5));
  };
  const auto errors = run(fake, kThree.family, 3, options, [&](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    ranks->gather("all are here");
    if (rank == 2) fake.stop(2);
    if (rank == 2) {
      wait_for_failures(2);
      return fake.resume(2);
    }
    // Rank 1 calls nothing for as long as rank 2, but its communication thread works.
    if (rank == 1) wait_for_failures(1);
    const std::string error = message_of([&] { ranks->gather(""); }, ErrorCode::COMMUNICATION_FAILED);
    ++failed;
    MOR_FAIL(COMMUNICATION_FAILED, error);
  });
  EXPECT_TRUE(says(errors[0], "gather: nothing was heard of rank 2 for 1 s"));
  EXPECT_TRUE(says(errors[1], "nothing was heard of rank 2 for 1 s"));
  EXPECT_GE(fake.aborted(), 2);
}

/// A caller who waits for something else than MPI, such as a GPU, asks again and again.
TEST(MpiCommunicator, ARankThatLeavesIsMissedByThoseWhoOnlyLook) {
  FakeMpi fake(kThree.family, 3);
  JoinOptions options;
  options.silence_seconds = 1;  // A rank looks at what the others say 20 times in this time.
  EXPECT_EQ(run(fake, kThree.family, 3, options,
                [&](int32_t rank, MpiThread& thread) {
                  const auto first = make_mpi_communicator(thread);
                  first->gather("all are here");
                  first->require_present();
                  first->gather("nobody has left");
                  if (rank != 2) {
                    const std::string error = message_of(
                        [&] {
                          for (;;) first->require_present();
                        },
                        ErrorCode::COMMUNICATION_FAILED);
                    EXPECT_TRUE(says(error, " has left")) << error;
                  }
                  first->abandon();
                  EXPECT_EQ(message_of([&] { first->require_present(); }, ErrorCode::COMMUNICATION_FAILED),
                            "this rank has left the other ranks");
                  const auto second = make_mpi_communicator(thread);
                  second->gather("all are here again");
                  second->require_present();
                  second->gather("nobody has left");
                }),
            no_errors(3));
}

TEST(MpiCommunicator, LeavesTheProcessorToOthersWhileItWaits) {
  FakeMpi fake(kTwo.family, 2);
  EXPECT_EQ(run(fake, kTwo.family, 2, {},
                [&](int32_t rank, MpiThread& thread) {
                  const auto ranks = make_mpi_communicator(thread);
                  ranks->gather("all are here");
                  const int64_t before = fake.calls(0);
                  const auto begin = std::chrono::steady_clock::now();
                  if (rank == 1) std::this_thread::sleep_for(milliseconds(300));
                  ranks->gather("");
                  const std::chrono::duration<double, std::milli> waited = std::chrono::steady_clock::now() - begin;
                  // It looks every 50 us for 100 ms, and then every ms, with at most four calls a look.
                  if (rank == 0) {
                    EXPECT_LT(fake.calls(0) - before, 4 * (2000 + waited.count()) + 100);
                  }
                }),
            no_errors(2));
}

class FailingCall : public ::testing::TestWithParam<std::pair<MpiFamily, const char*>> {};
INSTANTIATE_TEST_SUITE_P(MpiCommunicator, FailingCall,
                         ::testing::Values(std::pair(MpiFamily::open_mpi, "MPI_Isend"),
                                           std::pair(MpiFamily::open_mpi, "MPI_Irecv"),
                                           std::pair(MpiFamily::mpich, "MPI_Test")));

TEST_P(FailingCall, IsReported) {
  const auto [family, function] = GetParam();
  FakeMpi fake(family, 2);
  JoinOptions options;
  options.silence_seconds = 1;  // It takes a tenth of this until rank 0 ends rank 1.
  const auto errors = run(fake, family, 2, options, [&, function = function](int32_t rank, MpiThread& thread) {
    const auto ranks = make_mpi_communicator(thread);
    ranks->gather("all are here");
    if (rank == 0) fake.fail(0, function);
    for (int i = 0; i < 2; ++i) ranks->gather("x");
  });
  EXPECT_TRUE(says(errors[0], concat(function, " (rank 1) of libfake.so (", mpi_family_name(family),
                                     ") failed with code 77: what the library says of 77")));
  EXPECT_NE(errors[1], "no error");
  EXPECT_GE(fake.aborted(), 1);
}

TEST(MpiCommunicator, PassesOnWhyMpiDoesNotStart) {
  for (const std::string function : {"MPI_Init_thread", "MPI_Comm_set_errhandler", "MPI_Comm_rank", "MPI_Comm_size"}) {
    FakeMpi fake(kTwo.family, 2);
    for (const int rank : {0, 1}) fake.fail(rank, function);
    const auto errors =
        run(fake, kTwo.family, 2, {}, [&](int32_t, MpiThread& thread) { make_mpi_communicator(thread); });
    for (const std::string& error : errors)
      EXPECT_TRUE(says(error, function + " of libfake.so (Open MPI) failed with code 77"));
  }
}

TEST(MpiCommunicator, NeedsAnMpiThatKnowsThreads) {
  FakeMpi fake(kTwo.family, 2);
  fake.thread_level = 0;
  for (const std::string& error : run(fake, kTwo.family, 2, {}, [](int32_t, MpiThread&) {}))
    EXPECT_TRUE(says(error, "MPI_Init_thread provides level 0, but 1 is needed"));
}

TEST(MpiCommunicator, NeedsTheRanksOfTheLauncher) {
  FakeMpi fake(kTwo.family, 2);
  fake.size_of_world = 1;
  const auto sizes = run(fake, kTwo.family, 2, {}, [](int32_t, MpiThread&) {});
  EXPECT_TRUE(says(sizes[0], "the test started rank 0 of 2, but it is rank 0 of 1 for libfake.so (Open MPI)"));

  FakeMpi second(kTwo.family, 2);
  second.first_rank = 5;
  const auto numbers = run(second, kTwo.family, 2, {}, [](int32_t, MpiThread&) {});
  EXPECT_TRUE(says(numbers[1], "the test started rank 1 of 2, but it is rank 6 of 2"));
}

TEST(MpiCommunicator, DoesNotWaitForEverForRanksThatDoNotStart) {
  FakeMpi fake(kTwo.family, 2);
  JoinOptions options;
  options.join_seconds = 0.05;
  MpiThread first(make_mpi(fake.symbols(0), "libfake.so"), {"the test", {kTwo.family}, 0, 2}, options);
  for (int i = 0; i < 2; ++i)
    EXPECT_TRUE(says(message_of([&] { first.wait_for_ranks(); }, ErrorCode::COMMUNICATION_FAILED),
                     "MPI_Init of libfake.so (Open MPI) did not return within 0.05 s: do all 2 ranks start"));
  EXPECT_NE(message_of([&] { make_mpi_communicator(first); }, ErrorCode::COMMUNICATION_FAILED), "no error");
  // The other rank comes late, and learns that this one has given up.
  std::thread second([&] {
    MpiThread thread(make_mpi(fake.symbols(1), "libfake.so"), {"the test", {kTwo.family}, 1, 2}, {});
    thread.wait_for_ranks();
    const auto ranks = make_mpi_communicator(thread);
    EXPECT_TRUE(says(message_of([&] { ranks->gather(""); }, ErrorCode::COMMUNICATION_FAILED), "rank 0 has left"));
  });
  first.end();
  second.join();
}

TEST(MpiCommunicator, MayGiveUpWaitingForRanksToStart) {
  FakeMpi fake(kTwo.family, 2);
  MpiThread first(make_mpi(fake.symbols(0), "libfake.so"), {"the test", {kTwo.family}, 0, 2}, {});
  EXPECT_EQ(message_of([&] { first.wait_for_ranks([] { MOR_FAIL(ABORTED, "enough"); }); }, ErrorCode::ABORTED),
            "enough");
  std::thread second([&] {
    MpiThread thread(make_mpi(fake.symbols(1), "libfake.so"), {"the test", {kTwo.family}, 1, 2}, {});
    thread.wait_for_ranks();
  });
  first.wait_for_ranks([] {});
  first.end();
  second.join();
}

}  // namespace
}  // namespace mor::test
