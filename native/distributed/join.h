// How a process joins the ranks that a launcher started with it: over MPI, or over TCP where the launcher has no MPI.
#pragma once

#include <functional>
#include <memory>

#include "distributed/communicator.h"
#include "distributed/join_options.h"

namespace mor {

/// Null if the launcher started one rank only. Ranks over MPI are a Communicator of CPUs; those over TCP, which
/// torchrun starts, gather only. Waits for the other ranks. Throws INVALID_ARGUMENT for options that are not above 0,
/// COMMUNICATION_FAILED if no launcher started this process, what join_mpi and join_tcp throw, and what `check` throws,
/// which is called again and again while it waits. Must not be called on a thread that others wait for.
std::unique_ptr<HostRanks> join_ranks(const JoinOptions& options = {}, const std::function<void()>& check = {});

}  // namespace mor
