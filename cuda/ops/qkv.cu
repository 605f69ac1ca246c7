// qkv_forward on the GPU: one matrix product, whose epilogue adds the bias, rotates q and k in registers and writes
// each head to its place (qkv_epilogue.cuh). With norms, or if the product is kept, linear writes the product, and a
// second kernel, whose threads see whole heads, normalises, rotates and places them.
// Bytes: those of linear_forward; the second kernel reads and writes the product's columns once more. The table's rows
// come from the caches.
#include "cuda/cuda_ops.h"
#include "cuda/ops/linear_launch.cuh"
#include "cuda/ops/qkv_epilogue.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/head_lanes.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/qkv.h"

namespace mor::cuda {

namespace {

/// Normalises, rotates and places the heads of the product; each group of lanes has one. A column stands for a lane.
template <bool vectors, class T>
struct PlaceHeads {
  HeadLanes lanes;
  Heads<const T> projected;  ///< [R, heads of q, k and v, hd]
  const T *q_norm, *k_norm;  ///< [hd], or both null
  float epsilon;
  QkvEpilogue<T, false> places;

  __device__ void operator()(int64_t row, int64_t column) const {
    constexpr int kWidth = kVectorWidth<T>, kColumns = 2 * kWidth;
    const auto head = static_cast<uint32_t>(column) / lanes.count;
    const int pair = static_cast<int>(static_cast<uint32_t>(column) % lanes.count) * kWidth;
    const QkvRow<T, false> to = places.row(row);
    if (!to.keeps(head)) return;
    float x[kColumns], factor[kColumns];
    lanes.load_pairs<vectors>(x, projected.at(row, head), pair);
    if (head < to.key_heads) {
      if (q_norm != nullptr) {
        const float rstd = lanes.rstd(x, epsilon);
        lanes.load_pairs<vectors>(factor, head < to.query_heads ? q_norm : k_norm, pair);
#pragma unroll
        for (int i = 0; i < kColumns; ++i) x[i] *= rstd * factor[i];
        round_to<T>(x);
      }
      lanes.load_pairs<vectors>(factor, to.angles, pair);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) rotate(x[i], x[kWidth + i], factor[i], factor[kWidth + i]);
    }
    lanes.store_pairs<vectors>(to.target(head), pair, x);
  }
};

}  // namespace

void CudaOps::qkv_forward(const Tensor& x, const QkvTensors& weights, double epsilon, const int32_t* position,
                          const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot,
                          const Tensor& projected) {
  check_qkv_forward(x, weights, table, q, k, v, slot, projected);
  const Tensor& weight = weights.weight;
  const ArenaScope scope(scratch_);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    if (!weights.q_norm && !projected) {
      const auto start = [&](const auto& epilogue) { start_paired_forward<T>(stream_, x, weight, epilogue); };
      if (weights.bias) return start(qkv_epilogue<T, true>(weights.bias, position, table, q, k, v, slot));
      return start(qkv_epilogue<T, false>({}, position, table, q, k, v, slot));
    }
    const Tensor product = projected ? projected : scratch_.tensor(compute_, x.rows(), weight.rows(), "projected");
    linear_forward(x, weight, weights.bias.repeated(x.rows()), product);
    const HeadLanes lanes = head_lanes<T>("qkv_forward", table.columns());
    with_head_vectors<T>(lanes, {&product, &weights.q_norm, &weights.k_norm, &table, &q, &k, &v}, [&](auto vectors) {
      PlaceHeads<vectors(), T> place{};
      place.lanes = lanes;
      place.projected = heads_of<const T>(product.heads(table.columns()));
      place.places = qkv_epilogue<T, false>({}, position, table, q, k, v, slot);
      if (weights.q_norm) {
        place.q_norm = weights.q_norm.as<T>();
        place.k_norm = weights.k_norm.as<T>();
        place.epsilon = static_cast<float>(epsilon);
      }
      for_each<1>(stream_, x.rows(), int64_t{place.projected.heads} * lanes.count, place);
    });
  });
}

}  // namespace mor::cuda
