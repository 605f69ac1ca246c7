// Tests of the communicator on the MPI libraries of this machine, under their launchers. This program is also what the
// launchers start: `mpi_ranks_test --rank <part>`.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "distributed/mpi_communicator.h"
#include "test/distributed/rank_values.h"

namespace mor::test {
namespace {

// ---- what a rank does

constexpr double kSilence = 3;

/// One write, so that the lines of several ranks do not mix.
void say(const std::string& line) {
  std::cout << line + "\n" << std::flush;
}

/// FNV-1a over the bytes of all results.
uint64_t hash(uint64_t before, const std::string& bytes) {
  for (const char byte : bytes) before = (before ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return before;
}

/// Every operation against values of this rank's own, and the hash of the results.
void values(Communicator& ranks) {
  uint64_t all = 0xcbf29ce484222325u;
  all = hash(all, check_gather(ranks));
  for (const int64_t n : {0, 1, 777}) all = hash(all, check_reduce_scatter(ranks, n, DType::bfloat16));
  all = hash(all, check_reduce_scatter(ranks, 1200000, DType::float32));  // more than one slice
  for (const DType dtype : {DType::float32, DType::bfloat16}) all = hash(all, check_all_gather(ranks, 3001, dtype));
  all = hash(all, check_all_gather(ranks, 4300000, DType::uint8));  // more than one chunk
  if (::testing::Test::HasFailure()) throw std::runtime_error("a result is wrong");
  say(concat("rank ", ranks.rank(), " of ", ranks.size(), ": ", all));
}

/// Rank 0 waits for rank 1, which sleeps, and says how many seconds of a processor that took.
void wait_for_another(Communicator& ranks) {
  ranks.gather("all are here");
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  };
  const double before = used();
  if (ranks.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(1));
  ranks.gather("");
  if (ranks.rank() == 0) say(concat("used ", used() - before));
}

/// Rank 1 goes away in the middle, in one way or another.
void go_away(Communicator& ranks, const std::string& how) {
  ranks.gather("all are here");
  std::vector<float> all(static_cast<size_t>(ranks.size()) * 1000000);
  if (ranks.rank() == 1 && how == "stop") raise(SIGSTOP);
  if (ranks.rank() == 1 && how == "die") raise(SIGKILL);
  if (ranks.rank() == 1 && how == "throw") throw std::runtime_error("a trouble of rank 1");
  ranks.all_gather(make_vector(all.data(), DType::float32, static_cast<int64_t>(all.size()), "all"));
  ranks.wait();
}

int run_rank(const std::string& part) {
  try {
    const std::unique_ptr<Communicator> ranks = join_mpi({kSilence, 60});
    if (ranks == nullptr)
      say("alone");
    else if (part == "values")
      values(*ranks);
    else if (part == "wait")
      wait_for_another(*ranks);
    else
      go_away(*ranks, part);
    return 0;
  } catch (const std::exception& error) {
    say(concat("error: ", error.what()));
    return 1;
  }
}

// ---- what starts the ranks

struct Family {
  const char* name;
  const char* launcher;  ///< as Debian names it
  const char* library;
  const char* package;
};
constexpr Family kOpenMpi{"open_mpi", "mpirun.openmpi", "libmpi.so.40", "openmpi-bin"};
constexpr Family kMpich{"mpich", "mpiexec.mpich", "libmpich.so.12", "mpich"};

struct Ended {
  int status;
  std::string output;
  double seconds;
};

bool installed(const std::string& program) {
  return std::system(("command -v " + program + " > /dev/null").c_str()) == 0;
}

/// What the command prints, both streams together. It is ended after a minute.
Ended run_command(const std::string& command) {
  const auto begin = std::chrono::steady_clock::now();
  // Memory that an MPI library never frees is not this program's fault.
  FILE* pipe = popen(("ASAN_OPTIONS=detect_leaks=0 timeout -s KILL 60 " + command + " 2>&1").c_str(), "r");
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  const int status = pclose(pipe);
  return {status, output, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()};
}

std::string self() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

std::string command_of(const Family& family, int ranks, const std::string& part, const std::string& options = "") {
  // Open MPI refuses to start more ranks than there are cores, and refuses root.
  const char* usual = family.name == std::string(kOpenMpi.name) ? "--oversubscribe --allow-run-as-root" : "";
  return concat(family.launcher, " ", usual, " ", options, " -n ", ranks, " ", self(), " --rank ", part);
}
Ended run_ranks(const Family& family, int ranks, const std::string& part, const std::string& options = "") {
  return run_command(command_of(family, ranks, part, options));
}

/// The sorted lines that begin with `prefix`.
std::vector<std::string> lines_of(const std::string& output, const std::string& prefix) {
  std::vector<std::string> lines;
  std::istringstream stream(output);
  for (std::string line; std::getline(stream, line);)
    if (line.rfind(prefix, 0) == 0) lines.push_back(line);
  std::sort(lines.begin(), lines.end());
  return lines;
}

bool any_says(const std::vector<std::string>& lines, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(),
                     [&](const std::string& line) { return line.find(part) != std::string::npos; });
}

class MpiRanks : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override { skip_without(GetParam()); }

  static void skip_without(const Family& family) {
    if (!installed(family.launcher))
      GTEST_SKIP() << family.launcher << " is not installed: apt-get install " << family.package;
  }

  /// Every rank fails with this message, or is ended by the launcher first; at least one says it.
  void expect_error(const Ended& run, const std::string& part) {
    EXPECT_NE(run.status, 0) << run.output;
    const std::vector<std::string> errors = lines_of(run.output, "error: ");
    EXPECT_TRUE(any_says(errors, part)) << run.output;
  }
};
INSTANTIATE_TEST_SUITE_P(, MpiRanks, ::testing::Values(kOpenMpi, kMpich),
                         [](const auto& info) { return info.param.name; });

TEST_P(MpiRanks, GetWhatTheyComputeThemselves) {
  for (const int ranks : {2, 4}) {
    const Ended run = run_ranks(GetParam(), ranks, "values");
    EXPECT_EQ(run.status, 0) << run.output;
    EXPECT_EQ(lines_of(run.output, "rank ").size(), static_cast<size_t>(ranks)) << run.output;
  }
}

TEST_P(MpiRanks, LeaveTheProcessorToOthersWhileTheyWait) {
  const Ended run = run_ranks(GetParam(), 2, "wait");
  const std::vector<std::string> used = lines_of(run.output, "used ");
  ASSERT_EQ(used.size(), 1u) << run.output;
  EXPECT_LT(std::stod(used[0].substr(5)), 0.5) << "s of a processor in 1 s";
}

TEST_P(MpiRanks, NeedNoLibraryIfThereIsOne) {
  const Ended run = run_ranks(GetParam(), 1, "values");
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(lines_of(run.output, "alone").size(), 1u) << run.output;
}

TEST_P(MpiRanks, LearnThatOneFailed) {
  const Ended run = run_ranks(GetParam(), 3, "throw");
  expect_error(run, "a trouble of rank 1");
  expect_error(run, "error: all_gather: rank 1 has left after 1 operation");
  EXPECT_LT(run.seconds, 30);
}

TEST_P(MpiRanks, EndWithOneThatDies) {
  const Ended run = run_ranks(GetParam(), 3, "die");
  EXPECT_NE(run.status, 0);
  EXPECT_LT(run.seconds, 30) << run.output;
}

TEST_P(MpiRanks, NameAndEndTheOneThatStandsStill) {
  const Ended run = run_ranks(GetParam(), 3, "stop");
  expect_error(run, "nothing was heard of rank 1 for 3 s");
  EXPECT_LT(run.seconds, 30);
}

TEST_P(MpiRanks, RefuseTheLibraryOfAnotherFamily) {
  const Family& other = GetParam().name == std::string(kMpich.name) ? kOpenMpi : kMpich;
  skip_without(other);
  if (IsSkipped()) return;
  const Ended run =
      run_command(concat("env MOR_MPI_LIBRARY=", other.library, " ", command_of(GetParam(), 2, "values")));
  expect_error(run, concat("but the MPI library is ", other.library));
}

/// Open MPI's launcher can be told not to end the other ranks itself, but then reports success whatever happens.
TEST(MpiRanksWithoutTheLaunchersHelp, NameTheOneThatDied) {
  if (!installed(kOpenMpi.launcher))
    GTEST_SKIP() << kOpenMpi.launcher << " is not installed: apt-get install " << kOpenMpi.package;
  const Ended run = run_ranks(kOpenMpi, 3, "die", "--enable-recovery");
  EXPECT_TRUE(any_says(lines_of(run.output, "error: "), "all_gather: nothing was heard of rank 1 for 3 s"))
      << run.output;
  EXPECT_LT(run.seconds, 30);
}

TEST(MpiRanksOfBothFamilies, GetTheSameBits) {
  for (const Family& family : {kOpenMpi, kMpich})
    if (!installed(family.launcher))
      GTEST_SKIP() << family.launcher << " is not installed: apt-get install " << family.package;
  EXPECT_EQ(lines_of(run_ranks(kOpenMpi, 3, "values").output, "rank "),
            lines_of(run_ranks(kMpich, 3, "values").output, "rank "));
}

TEST(MpiRanksWithoutALauncher, AreNone) {
  const Ended run =
      run_command(concat("env -u OMPI_COMM_WORLD_RANK -u PMI_RANK -u SLURM_STEP_NUM_TASKS ", self(), " --rank values"));
  EXPECT_NE(run.status, 0);
  EXPECT_TRUE(any_says({run.output}, "error: no MPI launcher started this process")) << run.output;
}

}  // namespace
}  // namespace mor::test

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--rank") return mor::test::run_rank(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
