// mbarriers on the host.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

// What they mean is said in cuda/tile/mbarrier.cuh. A wait for a phase that never ends is a deadlock.
void mbarrier_init(uint64_t* word, int arrivals);
void mbarrier_init_fence();
void mbarrier_arrive(uint64_t* word);
void mbarrier_arrive_in_block(uint64_t* word, int rank);
void mbarrier_expect_bytes(uint64_t* word, int bytes);
void mbarrier_wait(uint64_t* word, uint32_t parity);

namespace mbarriers {

/// For a copy that begins now: the number of its mbarrier, and of the phase that the copy belongs to.
struct Use {
  int number = 0;  ///< as order.h counts
  uint64_t phase = 0;
};
Use begin_copy(const uint64_t* word);
/// The copy is done.
void arrive_bytes(const Use& use, int64_t bytes);
/// The accesses of the copy.
uint32_t epoch_of(const Use& use);

}  // namespace mbarriers

}  // namespace mor::cuda_host
