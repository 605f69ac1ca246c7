// Opens an MPI library at run time, so that the package needs none where it is built and installed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "distributed/launcher.h"
#include "distributed/mpi.h"

namespace mor {

/// The address of a symbol, or null.
using Symbols = std::function<void*(const char*)>;

/// The family that the library with these symbols belongs to.
MpiFamily mpi_family(const Symbols& symbols);
/// library: the name of the file. Throws COMMUNICATION_FAILED naming the function that the library lacks.
std::unique_ptr<Mpi> make_mpi(const Symbols& symbols, const std::string& library);

/// Opens the library for the ranks of this launcher. file: its name or path; null: the names of the launcher's families
/// are tried, which the dynamic linker looks for. The library stays open until the process ends. Throws
/// COMMUNICATION_FAILED if there is none (with what was looked for and what to install) or if it is not the launcher's.
/// Sets the environment variable UCX_MEM_EVENTS to n, unless it is set.
std::unique_ptr<Mpi> open_mpi_library(const Launcher& launcher, const char* file);

}  // namespace mor
