// setmaxnreg on the host.
#pragma once

namespace mor::cuda_host {

/// The running thread has n registers from now on; up: it waits until others have given back what it needs. The threads
/// of a block begin with equal shares of the 64 Ki registers of a multiprocessor.
void set_registers(int n, bool up);

}  // namespace mor::cuda_host
