// qkv_forward on the GPU: one matrix product whose epilogue adds the bias, turns q and k in registers and writes each
// row where it belongs (qkv_epilogue.cuh). With norms of q and k the product is written as it is, and a second kernel,
// which sees whole heads, norms, turns and places them.
// Bytes: those of linear_forward, and with norms the columns read and written once more; the table's rows come from
// the caches.
#include "cuda/cuda_ops.h"
#include "cuda/ops/linear_launch.cuh"
#include "cuda/ops/qkv_epilogue.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/head_lanes.cuh"
#include "ops/checks/qkv.h"

namespace mor::cuda {

namespace {

/// Norms, turns and places heads of the product. Columns run over the lanes of all heads.
template <bool vectors, class T>
struct PlaceHeads {
  HeadLanes heads;
  const T* projected;  ///< [R, columns of all heads]
  int64_t projected_stride;
  const T *q_norm, *k_norm;  ///< [hd], or both null
  float epsilon;
  QkvEpilogue<T> places;

  __device__ void operator()(int64_t row, int64_t column) const {
    constexpr int kWidth = kVectorWidth<T>, kColumns = 2 * kWidth;
    const auto head = static_cast<uint32_t>(column) / heads.lanes;
    const int j = static_cast<int>(static_cast<uint32_t>(column) % heads.lanes) * kWidth;
    const QkvRow<T> to = places.row(row);
    if (!to.keeps(head)) return;
    float x[kColumns], factor[kColumns];
    heads.load_pairs<vectors>(x, projected + row * projected_stride + static_cast<int64_t>(head) * 2 * heads.half, j);
    if (head < to.key_heads) {
      if (q_norm != nullptr) {
        const float rstd = heads.rstd(x, epsilon);
        heads.load_pairs<vectors>(factor, head < to.query_heads ? q_norm : k_norm, j);
#pragma unroll
        for (int i = 0; i < kColumns; ++i) x[i] *= rstd * factor[i];
        round_to<T>(x);
      }
      heads.load_pairs<vectors>(factor, to.angles, j);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) turn(x[i], x[kWidth + i], factor[i], factor[kWidth + i]);
    }
    heads.store_pairs<vectors>(to.target(head), j, x);
  }
};

}  // namespace

void CudaOps::qkv_forward(const Tensor& x, const QkvTensors& weights, double epsilon, const int32_t* position,
                          const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot,
                          const Tensor& projected) {
  check_qkv_forward(x, weights, table, q, k, v, slot, projected);
  const Tensor& weight = weights.weight;
  const ScratchScope scope(scratch_);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    QkvEpilogue<T> epilogue = qkv_epilogue<T>(position, table, q, k, v, slot);
    if (!weights.q_norm && !projected) {
      if (weights.bias) {
        epilogue.bias = weights.bias.as<T>();
        epilogue.vectors = epilogue.vectors && pairs_aligned(weights.bias);
      }
      if constexpr (std::is_same_v<T, bf16>)
        start_forward(stream_, mma_factor(x, false), PairedMmaFactor{mma_factor(weight, false), epilogue.pairs},
                      async_aligned(x, weight), epilogue);
      else
        multiply(stream_, fma_factor(x, false), PairedFmaFactor{fma_factor(weight, false), epilogue.pairs}, epilogue);
      return;
    }
    const Tensor product = projected ? projected : scratch_.tensor(compute_, x.rows(), weight.rows(), "projected");
    linear_forward(x, weight, weights.bias.repeated(x.rows()), product);
    const HeadLanes heads = head_lanes<T>("qkv_forward", table.columns());
    with_head_vectors<T>(heads, {&product, &weights.q_norm, &weights.k_norm, &table, &q, &k, &v}, [&](auto vectors) {
      const auto norm = [](const Tensor& tensor) { return tensor ? tensor.as<T>() : nullptr; };
      for_each<1>(stream_, x.rows(), weight.rows() / table.columns() * heads.lanes,
                  PlaceHeads<vectors(), T>{heads, product.as<T>(), product.row_stride, norm(weights.q_norm),
                                           norm(weights.k_norm), static_cast<float>(epsilon), epilogue});
    });
  });
}

}  // namespace mor::cuda
