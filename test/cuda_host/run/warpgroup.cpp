// The registers that the warps of a block share out.
#include "test/cuda_host/run/warpgroup.h"

#include <algorithm>
#include <string>

#include "test/cuda_host/run/threads.h"

namespace mor::cuda_host {

namespace {

constexpr int kRegisters = 64 << 10, kStep = 8, kFewest = 24, kMost = 256;

}  // namespace

void set_registers(int n, bool up) {
  const std::string operation = up ? "set_registers_up" : "set_registers_down";
  Thread& self = running();
  if (n % kStep != 0 || n < kFewest || n > kMost)
    fail(operation + ": " + std::to_string(n) + " is no multiple of 8 from 24 to 256");
  if (up ? n < self.registers : n > self.registers)
    fail(operation + ": the thread has " + std::to_string(self.registers) + " registers, and would have " +
         std::to_string(n));
  int& unused = self.block->unused_registers;
  while (n - self.registers > unused) wait_for(&unused, "set_registers_up");
  unused -= n - self.registers;
  self.registers = n;
  if (!up) wake(&unused, nullptr);
}

namespace registers {

void begin_cluster() {
  for (Block& block : grid().blocks) block.unused_registers = 0;
  const int each = std::min(kMost, kRegisters / grid().block_threads / kStep * kStep);
  for (int t = 0; t < grid().count; ++t) grid().threads[static_cast<size_t>(t)]->registers = each;
}

}  // namespace registers

}  // namespace mor::cuda_host
