// Which launcher started this process.
#include "distributed/launcher.h"

#include <charconv>
#include <cstring>

#include "core/check.h"

namespace mor {

namespace {

int32_t number(const Environment& environment, const char* variable) {
  const char* text = environment(variable);
  MOR_CHECK(text != nullptr, COMMUNICATION_FAILED, "the environment variable ", variable,
            " is missing, although others of the same launcher are set; start all ranks by the launcher");
  int32_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, value);
  MOR_CHECK(error == std::errc{} && last == end, COMMUNICATION_FAILED, "the environment variable ", variable, " is '",
            text, "', not a number; start all ranks by the launcher");
  return value;
}

Launcher read(const Environment& environment, std::string name, std::vector<MpiFamily> families, const char* rank,
              const char* size) {
  Launcher launcher{std::move(name), std::move(families), number(environment, rank), number(environment, size)};
  MOR_CHECK(launcher.rank >= 0 && launcher.rank < launcher.size, COMMUNICATION_FAILED, "the environment variables ",
            rank, " and ", size, " say rank ", launcher.rank, " of ", launcher.size,
            "; start all ranks by the launcher");
  return launcher;
}

}  // namespace

const char* mpi_family_name(MpiFamily family) {
  return family == MpiFamily::open_mpi ? "Open MPI" : "MPICH";
}

std::optional<Launcher> find_launcher(const Environment& environment) {
  // A launcher inside an allocation of Slurm inherits Slurm's variables, so its own are asked first.
  if (environment("OMPI_COMM_WORLD_RANK") != nullptr)
    return read(environment, "Open MPI's mpirun", {MpiFamily::open_mpi}, "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_SIZE");
  // srun sets this variable, and a batch script that runs the program without srun has the others of Slurm only.
  const bool slurm = environment("SLURM_STEP_NUM_TASKS") != nullptr;
  if (environment("PMI_RANK") != nullptr) {
    // srun --mpi=pmi2 sets the same variables as MPICH's mpiexec, and libraries of both families may know that
    // protocol.
    if (slurm) return read(environment, "srun", {MpiFamily::mpich, MpiFamily::open_mpi}, "PMI_RANK", "PMI_SIZE");
    return read(environment, "MPICH's mpiexec", {MpiFamily::mpich}, "PMI_RANK", "PMI_SIZE");
  }
  if (slurm)
    return read(environment, "srun", {MpiFamily::open_mpi, MpiFamily::mpich}, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");
  if (environment("MASTER_ADDR") != nullptr && environment("RANK") != nullptr)
    return read(environment, "torchrun", {}, "RANK", "WORLD_SIZE");
  return std::nullopt;
}

}  // namespace mor
