// Tests of the launcher that started a process, and of the choice and the opening of its MPI library.
#include "distributed/mpi_library.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <string>

#include "core/check.h"
#include "test/distributed/fake_mpi.h"
#include "test/error_message.h"

namespace mor::test {
namespace {

using Variables = std::map<std::string, std::string>;

Environment environment_of(const Variables& variables) {
  return [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}
std::optional<Launcher> launcher_of(const Variables& variables) {
  return find_launcher(environment_of(variables));
}
std::string error_of(const std::function<void()>& call) {
  return message_of(call, ErrorCode::COMMUNICATION_FAILED);
}

/// Name, rank, size, and the families in their order.
std::string described(const Variables& variables) {
  const std::optional<Launcher> launcher = launcher_of(variables);
  if (!launcher) return "none";
  std::string text = concat(launcher->name, ", ", launcher->rank, " of ", launcher->size);
  for (const MpiFamily family : launcher->families) text += concat(", ", mpi_family_name(family));
  return text;
}

TEST(Launcher, IsFoundByItsVariables) {
  EXPECT_EQ(described({}), "none");
  EXPECT_EQ(described({{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}),
            "Open MPI's mpirun, 2 of 4, Open MPI");
  EXPECT_EQ(described({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}), "MPICH's mpiexec, 0 of 2, MPICH");
  EXPECT_EQ(described({{"SLURM_PROCID", "7"}, {"SLURM_STEP_NUM_TASKS", "8"}}), "srun, 7 of 8, Open MPI, MPICH");
  EXPECT_EQ(described({{"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}, {"RANK", "1"}, {"WORLD_SIZE", "2"}}),
            "torchrun, 1 of 2");
  // Other programs use such names, too.
  EXPECT_EQ(described({{"RANK", "1"}, {"WORLD_SIZE", "2"}}), "none");
}

TEST(Launcher, InsideAnAllocationOfSlurm) {
  const Variables step = {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_NUM_TASKS", "2"}};
  Variables mpirun = step, pmi2 = step;
  mpirun.insert({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"}});
  pmi2.insert({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
  EXPECT_EQ(described(mpirun), "Open MPI's mpirun, 3 of 4, Open MPI");
  EXPECT_EQ(described(pmi2), "srun, 1 of 2, MPICH, Open MPI");
  Variables torchrun = {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_LOCALID", "0"}, {"RANK", "5"},
                        {"WORLD_SIZE", "8"},   {"LOCAL_RANK", "5"},           {"MASTER_ADDR", "a"}};
  EXPECT_EQ(described(torchrun), "srun, 0 of 1, Open MPI, MPICH") << "scripts export these for srun, too";
  torchrun.insert({"TORCHELASTIC_RUN_ID", "none"});
  EXPECT_EQ(described(torchrun), "torchrun, 5 of 8");
  EXPECT_EQ(launcher_of(torchrun)->local_rank, 5);
  pmi2.insert({{"MPI_LOCALRANKID", "1"}, {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(described(pmi2), "MPICH's mpiexec, 1 of 2, MPICH");
  EXPECT_EQ(launcher_of(pmi2)->local_rank, 1);
  // The batch script itself is one process, however many tasks srun would start.
  EXPECT_EQ(described({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "16"}}), "none");
}

TEST(Launcher, SaysTheRankOnItsMachine) {
  using Pair = std::pair<const std::string, std::string>;
  const auto local_rank = [](Variables variables, const Pair& more) {
    EXPECT_EQ(launcher_of(variables)->local_rank, std::nullopt) << described(variables);
    variables.insert(more);
    return launcher_of(variables)->local_rank;
  };
  const Variables open_mpi = {{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}},
                  mpich = {{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}},
                  slurm = {{"SLURM_PROCID", "2"}, {"SLURM_STEP_NUM_TASKS", "4"}},
                  torchrun = {{"MASTER_ADDR", "a"}, {"RANK", "2"}, {"WORLD_SIZE", "4"}};
  Variables pmi2 = mpich;
  pmi2.insert({"SLURM_STEP_NUM_TASKS", "4"});
  EXPECT_EQ(local_rank(open_mpi, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}), 1);
  EXPECT_EQ(local_rank(mpich, {"MPI_LOCALRANKID", "1"}), 1);
  EXPECT_EQ(local_rank(slurm, {"SLURM_LOCALID", "0"}), 0);
  EXPECT_EQ(local_rank(pmi2, {"SLURM_LOCALID", "1"}), 1);
  EXPECT_EQ(local_rank(torchrun, {"LOCAL_RANK", "1"}), 1);
  EXPECT_EQ(error_of([&] {
              local_rank(torchrun, {"LOCAL_RANK", "-1"});
            }),
            "the environment variable LOCAL_RANK is -1, but ranks of a machine count from 0; start all ranks by the "
            "launcher");
}

TEST(Launcher, SaysWhereRanksMeet) {
  const auto point_of = [](Variables variables) {
    variables.insert({"MASTER_ADDR", "machine"});
    const MeetingPoint point = meeting_point(environment_of(variables));
    return concat(point.address, ":", point.port);
  };
  EXPECT_EQ(point_of({{"MASTER_PORT", "29500"}}), "machine:29500");
  for (const auto& [local, one_machine] : {std::pair("8", true), std::pair("4", false)}) {
    const Variables of_torchrun = {
        {"MASTER_ADDR", "machine"}, {"MASTER_PORT", "1"}, {"WORLD_SIZE", "8"}, {"LOCAL_WORLD_SIZE", local}};
    EXPECT_EQ(meeting_point(environment_of(of_torchrun)).one_machine, one_machine);
  }
  EXPECT_EQ(point_of({{"MASTER_PORT", "29500"}, {"TORCHELASTIC_USE_AGENT_STORE", "False"}}), "machine:29500");
  EXPECT_EQ(point_of({{"MASTER_PORT", "29500"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}), "machine:30500");
  EXPECT_EQ(point_of({{"MASTER_PORT", "64535"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}), "machine:65535");
  EXPECT_EQ(point_of({{"MASTER_PORT", "64536"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}}), "machine:63536");
  EXPECT_EQ(
      point_of({{"MASTER_PORT", "29500"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"MOR_MASTER_PORT", "29501"}}),
      "machine:29501");
  EXPECT_EQ(error_of([&] { point_of({}); }),
            "the environment variable MASTER_PORT is missing, although others of the same launcher are set; start all "
            "ranks by the launcher");
  EXPECT_EQ(error_of([&] {
              point_of({{"MOR_MASTER_PORT", "high"}});
            }),
            "the environment variable MOR_MASTER_PORT is 'high', not a number; start all ranks by the launcher");
}

TEST(Launcher, RefusesVariablesThatSayNoRank) {
  EXPECT_EQ(
      error_of([] {
        launcher_of({{"PMI_RANK", "1"}});
      }),
      "the environment variable PMI_SIZE is missing, although others of the same launcher are set; start all ranks "
      "by the launcher");
  EXPECT_EQ(error_of([] {
              launcher_of({{"PMI_RANK", "1x"}, {"PMI_SIZE", "2"}});
            }),
            "the environment variable PMI_RANK is '1x', not a number; start all ranks by the launcher");
  for (const char* rank : {"2", "-1"})
    EXPECT_EQ(error_of([&] {
                launcher_of({{"OMPI_COMM_WORLD_RANK", rank}, {"OMPI_COMM_WORLD_SIZE", "2"}});
              }),
              concat("the environment variables OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE say rank ", rank,
                     " of 2; start all ranks by the launcher"));
}

TEST(Launcher, OfMpichThatTellsNoRankIsRefused) {
  EXPECT_EQ(
      error_of([] {
        launcher_of({{"PMI_PORT", "machine:41979"}, {"PMI_ID", "0"}, {"MPI_LOCALRANKID", "0"}});
      }),
      "MPICH's mpiexec started this process with PMI_PORT, and without PMI_RANK and PMI_SIZE, which say its rank; "
      "start the ranks without the option -pmi-port");
  EXPECT_EQ(described({{"PMI_PORT", "machine:1"}, {"PMI_ID", "1"}, {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}),
            "MPICH's mpiexec, 1 of 2, MPICH");
}

TEST(Launcher, OfMpichIsReachedByADescriptorThatMustBeOpen) {
  const auto error_with = [](Variables variables) {
    variables.insert({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
    const Environment environment = environment_of(variables);
    return error_of([&] { check_launcher_reached(*find_launcher(environment), environment); });
  };
  int sockets[2], pipes[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
  ASSERT_EQ(pipe(pipes), 0);
  EXPECT_EQ(error_with({}), "no error");
  EXPECT_EQ(error_with({{"PMI_FD", std::to_string(sockets[0])}}), "no error");
  // Open MPI's ranks are not reached by it, and may have inherited the variable from a launcher around theirs.
  EXPECT_EQ(error_with({{"PMI_FD", "999"}, {"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}), "no error");
  const std::string closed = std::to_string(sockets[0]);
  close(sockets[0]);
  close(sockets[1]);
  // A process has other files where the socket was, or none.
  for (const std::string& descriptor : {closed, std::to_string(pipes[0])})
    EXPECT_EQ(
        error_with({{"PMI_FD", descriptor}}),
        concat("MPICH's mpiexec started this process, but the socket by which its ranks reach it, PMI_FD=", descriptor,
               ", is closed, as npx and npm do for what they start; start node_modules/.bin/mor in place of 'npx "
               "mor'"));
  close(pipes[0]);
  close(pipes[1]);
}

TEST(MpiLibrary, IsOfTheFamilyThatItsSymbolsSay) {
  for (const MpiFamily family : {MpiFamily::open_mpi, MpiFamily::mpich}) {
    const FakeMpi fake(family, 1);
    EXPECT_EQ(mpi_family(fake.symbols(0)), family);
    EXPECT_EQ(make_mpi(fake.symbols(0), "libfake.so")->library(), concat("libfake.so (", mpi_family_name(family), ")"));
  }
}

TEST(MpiLibrary, MustHaveEveryFunction) {
  for (const char* function : {"MPI_Init_thread", "MPI_Comm_set_errhandler", "MPI_Comm_rank", "MPI_Comm_size",
                               "MPI_Isend", "MPI_Irecv", "MPI_Test", "MPI_Cancel", "MPI_Error_string", "MPI_Finalize",
                               "MPI_Abort", "ompi_mpi_byte", "ompi_mpi_errors_return"}) {
    FakeMpi fake(MpiFamily::open_mpi, 1);
    fake.missing = function;
    EXPECT_EQ(error_of([&] { make_mpi(fake.symbols(0), "libfake.so"); }),
              concat("libfake.so has no ", function,
                     ", so it is no MPI library that can be used; MOR_MPI_LIBRARY may name another"));
  }
}

const Launcher kLauncher{"the test", {MpiFamily::mpich}, 0, 2};

TEST(MpiLibrary, MayBeNamed) {
  const std::string missing = error_of([] { open_mpi_library(kLauncher, "/nowhere/libmpi.so"); });
  EXPECT_EQ(missing.find("the MPI library that MOR_MPI_LIBRARY names cannot be opened: /nowhere/libmpi.so: "), 0u)
      << missing;
  // A library without any function of MPI.
  EXPECT_EQ(
      error_of([] { open_mpi_library(kLauncher, "libm.so.6"); }),
      "libm.so.6 has no MPI_Init_thread, so it is no MPI library that can be used; MOR_MPI_LIBRARY may name another");
}

/// UCX reads the variable when the library that uses it is opened.
TEST(MpiLibrary, IsOpenedWithoutUcxInTheFunctionsOfMemory) {
  for (const char* chosen : {static_cast<const char*>(nullptr), "y"}) {
    unsetenv("UCX_MEM_EVENTS");
    if (chosen != nullptr) setenv("UCX_MEM_EVENTS", chosen, 1);
    error_of([] { open_mpi_library(kLauncher, "libm.so.6"); });
    EXPECT_STREQ(std::getenv("UCX_MEM_EVENTS"), chosen == nullptr ? "n" : chosen);
  }
  unsetenv("UCX_MEM_EVENTS");
}

}  // namespace
}  // namespace mor::test
