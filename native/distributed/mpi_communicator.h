// The ranks that an MPI launcher has started, as a Communicator.
#pragma once

#include <functional>
#include <memory>

#include "distributed/communicator.h"
#include "distributed/mpi_thread.h"

namespace mor {

/// The communicator of this process on CPUs. Waits for the other ranks. MPI stays initialised until the process ends,
/// so that one communicator can follow another, with the launcher and the options of the first. Throws
/// COMMUNICATION_FAILED if no MPI library of the launcher is found (the environment variable MOR_MPI_LIBRARY names
/// another file), if the ranks are not those of the launcher, or if they do not join in time; and what `check` throws,
/// which is called again and again while it waits. Must not be called on a thread that others wait for.
std::unique_ptr<Communicator> join_mpi(const Launcher& launcher, const JoinOptions& options,
                                       const std::function<void()>& check);

/// A communicator on this thread, which must outlive it.
std::unique_ptr<Communicator> make_mpi_communicator(MpiThread& thread);

}  // namespace mor
