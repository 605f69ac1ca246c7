// The operations of a communicator on MPI, as its communication thread runs them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "distributed/mpi_exchange.h"

namespace mor {

/// As the functions of Communicator with these names, but they return when they are done.
std::vector<std::string> mpi_gather(MpiExchange& exchange, std::string_view bytes);
void mpi_reduce_scatter(MpiExchange& exchange, const Tensor& values, const Tensor& sum, DType wire);
void mpi_all_gather(MpiExchange& exchange, const Tensor& all);

}  // namespace mor
