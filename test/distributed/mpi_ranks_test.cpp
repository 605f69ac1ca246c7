// Tests of the communicator on the MPI libraries of this machine, under their launchers. This program is also what the
// launchers start: `mpi_ranks_test --rank <part>`.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "distributed/join.h"
#include "distributed/tcp_connection.h"
#include "test/distributed/rank_values.h"

namespace mor::test {
namespace {

// ---- what a rank does

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

/// Rank 1 is killed before the others have got what they wait for.
void die(Communicator& ranks) {
  ranks.gather("all are here");
  if (ranks.rank() == 1) raise(SIGKILL);
  ranks.gather("");
}

void gather(HostRanks& ranks) {
  std::string all;
  for (const std::string& each : ranks.gather(concat("of rank ", ranks.rank()))) all += ", " + each;
  say(concat("rank ", ranks.rank(), " of ", ranks.size(), all));
}

int run_rank(const std::string& part) {
  try {
    const std::unique_ptr<HostRanks> ranks = join_ranks();
    if (ranks == nullptr)
      say("alone");
    else if (part == "gather")
      gather(*ranks);
    else if (part == "values")
      values(dynamic_cast<Communicator&>(*ranks));
    else
      die(dynamic_cast<Communicator&>(*ranks));
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
  const char* variables;  ///< of rank 0 of 2
};
constexpr Family kOpenMpi{"open_mpi", "mpirun.openmpi", "libmpi.so.40", "openmpi-bin",
                          "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2"};
constexpr Family kMpich{"mpich", "mpiexec.mpich", "libmpich.so.12", "mpich", "PMI_RANK=0 PMI_SIZE=2"};

struct Ended {
  int status;
  std::string output;
};

bool installed(const std::string& program) {
  return std::system(("command -v " + program + " > /dev/null").c_str()) == 0;
}

/// The exit status of `timeout` for a command that it had to end.
constexpr int kTimedOut = 124;

/// Runs a command of a shell: its exit status, and what it prints on both streams.
Ended run_command(const std::string& command) {
  // Memory that an MPI library never frees is not this program's fault.
  FILE* pipe = popen(("ASAN_OPTIONS=detect_leaks=0 timeout -k 5 120 " + command + " 2>&1").c_str(), "r");
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  return {WEXITSTATUS(pclose(pipe)), output};
}

std::string self() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

Ended run_ranks(const Family& family, int ranks, const std::string& part) {
  // Open MPI refuses to start more ranks than there are cores, and refuses root.
  const char* options = family.name == std::string(kOpenMpi.name) ? "--oversubscribe --allow-run-as-root" : "";
  return run_command(concat(family.launcher, " ", options, " -n ", ranks, " ", self(), " --rank ", part));
}

/// One process with the variables of a launcher.
Ended run_alone(const std::string& variables) {
  return run_command(concat("env -u OMPI_COMM_WORLD_RANK -u PMI_RANK -u SLURM_STEP_NUM_TASKS ", variables, " ", self(),
                            " --rank values"));
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

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void skip_without(const Family& family) {
  if (!installed(family.launcher))
    GTEST_SKIP() << family.launcher << " is not installed: apt-get install " << family.package;
}

class MpiRanks : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override { skip_without(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(, MpiRanks, ::testing::Values(kOpenMpi, kMpich),
                         [](const auto& info) { return info.param.name; });

TEST_P(MpiRanks, EndWithOneThatDies) {
  const Ended run = run_ranks(GetParam(), 2, "die");
  EXPECT_NE(run.status, 0) << run.output;
  EXPECT_NE(run.status, kTimedOut) << run.output;
}

TEST_P(MpiRanks, RefuseTheLibraryOfTheOtherFamily) {
  const Family& other = GetParam().name == std::string(kMpich.name) ? kOpenMpi : kMpich;
  skip_without(other);
  if (IsSkipped()) return;
  const Ended run = run_alone(concat(GetParam().variables, " MOR_MPI_LIBRARY=", other.library));
  EXPECT_EQ(run.status, 1);
  EXPECT_TRUE(has(run.output, concat("started this process, but the MPI library is ", other.library))) << run.output;
}

/// Each rank compares the results with what it computes itself.
TEST(MpiRanksOfBothFamilies, GetTheSameBits) {
  std::vector<std::vector<std::string>> results;
  for (const Family& family : {kOpenMpi, kMpich}) {
    skip_without(family);
    if (::testing::Test::IsSkipped()) return;
    const Ended run = run_ranks(family, 2, "values");
    EXPECT_EQ(run.status, 0) << run.output;
    results.push_back(lines_of(run.output, "rank "));
    EXPECT_EQ(results.back().size(), 2u) << run.output;
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(MpiRanksOfNoLauncher, AreNone) {
  const Ended run = run_alone("");
  EXPECT_EQ(run.status, 1);
  EXPECT_TRUE(has(run.output, "error: no launcher started this process")) << run.output;
}

/// Somebody listens at MASTER_PORT, as torchrun may.
TEST(MpiRanksOfTorchrun, MeetOverTcp) {
  int port = 20000 + getpid() % 10000;
  std::optional<Socket> agent;
  while (!agent) {
    try {
      agent = listen_at("127.0.0.1", port);
    } catch (const Error&) {
      ++port;
    }
  }
  const auto rank = [&](int number, const std::string& more) {
    return concat("env -u OMPI_COMM_WORLD_RANK -u PMI_RANK -u SLURM_STEP_NUM_TASKS MASTER_ADDR=127.0.0.1 MASTER_PORT=",
                  port, " WORLD_SIZE=2 RANK=", number, " ", more, " ", self(), " --rank gather");
  };
  const std::string agents = "TORCHELASTIC_USE_AGENT_STORE=True";
  const Ended run = run_command(concat("sh -c '", rank(0, agents), " & ", rank(1, agents), "; wait'"));
  EXPECT_EQ(lines_of(run.output, "rank "),
            (std::vector<std::string>{"rank 0 of 2, of rank 0, of rank 1", "rank 1 of 2, of rank 0, of rank 1"}))
      << run.output;
  EXPECT_TRUE(has(run_command(rank(0, "")).output, "Address already in use; give all ranks an address of rank 0"));
}

TEST(MpiRank, NeedsNoLibraryIfItIsTheOnlyOne) {
  const Ended run = run_alone("PMI_RANK=0 PMI_SIZE=1 MOR_MPI_LIBRARY=/nowhere/libmpi.so");
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(lines_of(run.output, "alone").size(), 1u) << run.output;
}

}  // namespace
}  // namespace mor::test

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--rank") return mor::test::run_rank(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
