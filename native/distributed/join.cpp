// Chooses by the launcher how ranks join.
#include "distributed/join.h"

#include <cstdlib>
#include <optional>

#include "core/check.h"
#include "distributed/launcher.h"
#include "distributed/mpi_communicator.h"
#include "distributed/tcp_ranks.h"

namespace mor {

std::unique_ptr<HostRanks> join_ranks(const JoinOptions& options, const std::function<void()>& check) {
  const std::optional<Launcher> launcher = find_launcher(std::getenv);
  MOR_CHECK(
      launcher.has_value(), COMMUNICATION_FAILED,
      "no launcher started this process: none of OMPI_COMM_WORLD_RANK, PMI_RANK and SLURM_STEP_NUM_TASKS is set, "
      "nor RANK with MASTER_ADDR; start the ranks with 'mpirun -n <ranks>' or 'srun', or on GPUs with 'torchrun'");
  MOR_CHECK(options.silence_seconds > 0 && options.join_seconds > 0, INVALID_ARGUMENT,
            "ranks must be waited for longer than 0 s, not ", options.silence_seconds, " s when they are silent and ",
            options.join_seconds, " s when they join");
  if (launcher->size == 1) return nullptr;
  check_launcher_reached(*launcher, std::getenv);
  if (!launcher->families.empty()) return join_mpi(*launcher, options, check);
  const MeetingPoint point = meeting_point(std::getenv);
  return join_tcp({options, point.address, point.port, launcher->rank, launcher->size, point.one_machine}, check);
}

}  // namespace mor
