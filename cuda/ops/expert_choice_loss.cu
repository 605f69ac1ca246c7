// expert_choice_loss on the GPU: one pass over the scores; the sums of blocks are added in order.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/partials.cuh"
#include "cuda/tile/reduce.cuh"
#include "ops/checks/expert_choice_loss.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMostBlocks = 256;

__global__ void __launch_bounds__(kThreads)
    expert_choice_loss_kernel(int64_t rows, const float* scores /*[P]*/, const uint8_t* selected /*[P]*/,
                              double threshold, float bce_scale, float z_scale, double* partial /*[blocks,3]*/,
                              float* d_scores /*[P] or null*/) {
  wait_for_earlier_kernels();
  double bce = 0, squares = 0, right = 0;
  for (int64_t i = blockIdx.x * kThreads + threadIdx.x; i < rows; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const float s = scores[i], y = selected[i] != 0 ? 1.0f : 0.0f;
    // log(1 + e^s) - s y, written so that it cannot overflow.
    bce += static_cast<double>(fmaxf(s, 0.0f) + log1pf(expf(-fabsf(s))) - s * y);
    squares += static_cast<double>(s) * static_cast<double>(s);
    right += (static_cast<double>(s) >= threshold) == (selected[i] != 0) ? 1.0 : 0.0;
    if (d_scores != nullptr) d_scores[i] += bce_scale * (1.0f / (1.0f + expf(-s)) - y) + z_scale * 2.0f * s;
  }
  bce = block_sum(bce);
  squares = block_sum(squares);
  right = block_sum(right);
  if (threadIdx.x == 0) {
    partial[blockIdx.x * 3] = bce;
    partial[blockIdx.x * 3 + 1] = squares;
    partial[blockIdx.x * 3 + 2] = right;
  }
}

}  // namespace

void CudaOps::expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                                 double z_scale, const Tensor& sums, const Tensor& d_scores) {
  check_expert_choice_loss(scores, sums, d_scores);
  const int64_t rows = scores.count(), blocks = std::min((rows + kThreads - 1) / int64_t{kThreads}, kMostBlocks);
  const ArenaScope scope(scratch_);
  auto* partial = scratch_.array<double>(3 * blocks);
  launch(expert_choice_loss_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream_, rows,
         scores.as<float>(), selected, threshold, static_cast<float>(bce_scale), static_cast<float>(z_scale), partial,
         d_scores ? d_scores.as<float>() : nullptr);
  add_partials(stream_, partial, blocks, 3, sums.as<float>(), 3, 3);
}

}  // namespace mor::cuda
