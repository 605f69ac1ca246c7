// Launcher: the program that started this process as one rank of several, found by the environment variables that it
// set.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mor {

/// The libraries of one family are binary compatible with each other. That of MPICH includes Intel MPI and MVAPICH.
enum class MpiFamily : uint8_t { open_mpi, mpich };
const char* mpi_family_name(MpiFamily family);

struct Launcher {
  std::string name;  ///< for messages, such as "Open MPI's mpirun"
  /// Those whose libraries find their ranks under this launcher, the likeliest first; empty: MPI does not know it.
  std::vector<MpiFamily> families;
  int32_t rank = 0, size = 1;
  /// Among the ranks of its machine, from 0; nothing if the launcher does not say it.
  std::optional<int32_t> local_rank{};
};

/// The value of an environment variable, or null, as std::getenv.
using Environment = std::function<const char*(const char*)>;

/// The launcher that started this process: Open MPI's mpirun, MPICH's mpiexec, Slurm's srun, or PyTorch's torchrun;
/// nothing if it was none of them. Throws COMMUNICATION_FAILED if their variables hold no rank of a size.
std::optional<Launcher> find_launcher(const Environment& environment);

/// MPICH's launcher is reached by a socket that the process inherits. Throws COMMUNICATION_FAILED if it has been closed
/// on the way to this process, since MPICH's library would then end the process.
void check_launcher_reached(const Launcher& launcher, const Environment& environment);

/// Where ranks meet that MPI does not know: an address of rank 0's machine, and the port at which rank 0 listens.
struct MeetingPoint {
  std::string address;
  int port = 0;
  bool one_machine = false;  ///< whether all ranks are known to be on that of rank 0
};

/// MASTER_ADDR, and MOR_MASTER_PORT or, if that is not set, MASTER_PORT. If torchrun itself listens there, it is the
/// port 1000 above or, beyond the last port, below. Throws COMMUNICATION_FAILED if a variable is missing or no number.
MeetingPoint meeting_point(const Environment& environment);

}  // namespace mor
