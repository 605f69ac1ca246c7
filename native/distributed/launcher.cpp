// Which launcher started this process.
#include "distributed/launcher.h"

#include <sys/stat.h>

#include <charconv>
#include <cstring>

#include "core/check.h"

namespace mor {

namespace {

const char* text_of(const Environment& environment, const char* variable) {
  const char* text = environment(variable);
  MOR_CHECK(text != nullptr, COMMUNICATION_FAILED, "the environment variable ", variable,
            " is missing, although others of the same launcher are set; start all ranks by the launcher");
  return text;
}

int32_t number(const Environment& environment, const char* variable) {
  const char* text = text_of(environment, variable);
  int32_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, value);
  MOR_CHECK(error == std::errc{} && last == end, COMMUNICATION_FAILED, "the environment variable ", variable, " is '",
            text, "', not a number; start all ranks by the launcher");
  return value;
}

struct Variables {
  const char *rank, *size, *local_rank;
};

Launcher read(const Environment& environment, std::string name, std::vector<MpiFamily> families,
              const Variables& variables) {
  const auto [rank, size, local_rank] = variables;
  Launcher launcher{std::move(name), std::move(families), number(environment, rank), number(environment, size)};
  if (environment(local_rank) != nullptr) launcher.local_rank = number(environment, local_rank);
  MOR_CHECK(launcher.rank >= 0 && launcher.rank < launcher.size, COMMUNICATION_FAILED, "the environment variables ",
            rank, " and ", size, " say rank ", launcher.rank, " of ", launcher.size,
            "; start all ranks by the launcher");
  MOR_CHECK(launcher.local_rank.value_or(0) >= 0, COMMUNICATION_FAILED, "the environment variable ", local_rank, " is ",
            *launcher.local_rank, ", but ranks of a machine count from 0; start all ranks by the launcher");
  return launcher;
}

/// No port has a higher number.
constexpr int32_t kLastPort = 65535;
/// Far enough from a port that others choose next to each other for several runs.
constexpr int32_t kFromTheStore = 1000;

}  // namespace

const char* mpi_family_name(MpiFamily family) {
  return family == MpiFamily::open_mpi ? "Open MPI" : "MPICH";
}

std::optional<Launcher> find_launcher(const Environment& environment) {
  // A launcher inherits the variables of the one that started it, srun's above all, so those of the innermost are asked
  // first. torchrun sets this one for its own processes alone, and the others are in many scripts.
  if (environment("TORCHELASTIC_RUN_ID") != nullptr)
    return read(environment, "torchrun", {}, {"RANK", "WORLD_SIZE", "LOCAL_RANK"});
  if (environment("OMPI_COMM_WORLD_RANK") != nullptr)
    return read(environment, "Open MPI's mpirun", {MpiFamily::open_mpi},
                {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"});
  // srun sets this variable, and a batch script that runs the program without srun has the others of Slurm only.
  const bool slurm = environment("SLURM_STEP_NUM_TASKS") != nullptr;
  if (environment("PMI_RANK") != nullptr) {
    // srun --mpi=pmi2 sets the same variables as MPICH's mpiexec, and libraries of both families may know that
    // protocol.
    // MPICH's mpiexec may start its ranks by srun, and then says their places itself.
    if (slurm && environment("MPI_LOCALRANKID") == nullptr)
      return read(environment, "srun", {MpiFamily::mpich, MpiFamily::open_mpi},
                  {"PMI_RANK", "PMI_SIZE", "SLURM_LOCALID"});
    return read(environment, "MPICH's mpiexec", {MpiFamily::mpich}, {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"});
  }
  if (slurm)
    return read(environment, "srun", {MpiFamily::open_mpi, MpiFamily::mpich},
                {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"});
  MOR_CHECK(
      environment("PMI_PORT") == nullptr, COMMUNICATION_FAILED,
      "MPICH's mpiexec started this process with PMI_PORT, and without PMI_RANK and PMI_SIZE, which say its rank; "
      "start the ranks without the option -pmi-port");
  if (environment("MASTER_ADDR") != nullptr && environment("RANK") != nullptr)
    return read(environment, "torchrun", {}, {"RANK", "WORLD_SIZE", "LOCAL_RANK"});
  return std::nullopt;
}

void check_launcher_reached(const Launcher& launcher, const Environment& environment) {
  const bool is_mpich = !launcher.families.empty() && launcher.families.front() == MpiFamily::mpich;
  if (!is_mpich || environment("PMI_FD") == nullptr) return;
  const int descriptor = number(environment, "PMI_FD");
  struct stat file;
  MOR_CHECK(fstat(descriptor, &file) == 0 && S_ISSOCK(file.st_mode), COMMUNICATION_FAILED, launcher.name,
            " started this process, but the socket by which its ranks reach it, PMI_FD=", descriptor,
            ", is closed, as npx and npm do for what they start; start node_modules/.bin/mor in place of 'npx mor'");
}

MeetingPoint meeting_point(const Environment& environment) {
  MeetingPoint point{text_of(environment, "MASTER_ADDR")};
  const char *here = environment("LOCAL_WORLD_SIZE"), *all = environment("WORLD_SIZE");
  point.one_machine = here != nullptr && all != nullptr && std::strcmp(here, all) == 0;
  if (environment("MOR_MASTER_PORT") != nullptr) {
    point.port = number(environment, "MOR_MASTER_PORT");
    return point;
  }
  point.port = number(environment, "MASTER_PORT");
  const char* agent = environment("TORCHELASTIC_USE_AGENT_STORE");
  if (agent != nullptr && std::strcmp(agent, "True") == 0)
    point.port += point.port + kFromTheStore > kLastPort ? -kFromTheStore : kFromTheStore;
  return point;
}

}  // namespace mor
