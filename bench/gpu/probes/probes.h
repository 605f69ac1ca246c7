// The probes of a GPU: each checks what its kernels compute, and then prints how fast they are.
#pragma once

#include "bench/gpu/gpu_program.h"

namespace mor::bench {

/// Products of bf16 by mma.sync with operands in registers alone.
void probe_mma_sync(const GpuOptions& options);
/// Products of bf16 by wgmma, with operands that stay in shared memory. Compute capability 9.0 alone has it.
void probe_wgmma(const GpuOptions& options);
/// The time of a kernel in a graph of 256 small ones, each of which needs the result of the one before.
/// programmatic: a kernel may be launched while the one before runs, and waits for it on the device.
void probe_graph(const GpuOptions& options, bool programmatic);
/// Bytes per second that kernels read, and copy.
void probe_bandwidth(const GpuOptions& options);

}  // namespace mor::bench
