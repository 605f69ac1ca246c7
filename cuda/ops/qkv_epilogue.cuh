// The epilogue of qkv's product: adds the bias, rotates q and k, and writes each head to its place.
#pragma once

#include "cuda/tile/bf16.cuh"
#include "cuda/tile/head_pairs.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/ops.h"

namespace mor::cuda {

/// One row of the product: where its heads are written, and the angles by which they are rotated.
template <class T, bool has_bias>
struct QkvRow {
  const HeadPairs& pairs;
  uint32_t query_heads, key_heads;  ///< heads of q; heads of q and k
  bool vectors;
  const float* angles;  ///< cosines, then sines
  T *q, *k, *v;         ///< k and v are null if the row's key and value are not kept
  const T* bias;        ///< of all columns

  /// Takes pair `pair` and the next one: their first and their second halves.
  __device__ __forceinline__ void operator()(uint32_t pair, const float (&first)[2], const float (&second)[2]) const {
    if (vectors) {
      const uint32_t head = pairs.head(pair), j = pair - head * pairs.half;
      float a[2] = {first[0], first[1]}, b[2] = {second[0], second[1]};
      if constexpr (has_bias) {
        float add[2];
        const T* of_first = bias + 2 * head * pairs.half + j;
        load(add, of_first);
        a[0] += add[0];
        a[1] += add[1];
        load(add, of_first + pairs.half);
        b[0] += add[0];
        b[1] += add[1];
      }
      round_to<T>(a);
      round_to<T>(b);
      if (head < key_heads) {
        const float2 cosine = *reinterpret_cast<const float2*>(angles + j);
        const float2 sine = *reinterpret_cast<const float2*>(angles + pairs.half + j);
        rotate(a[0], b[0], cosine.x, sine.x);
        rotate(a[1], b[1], cosine.y, sine.y);
      }
      if (!keeps(head)) return;
      T* to = target(head) + j;
      store(to, a);
      store(to + pairs.half, b);
    } else {
      (*this)(pair, first[0], second[0]);
      if (2 * (pair + 1) < pairs.columns) (*this)(pair + 1, first[1], second[1]);
    }
  }
  __device__ __forceinline__ void operator()(uint32_t pair, float first, float second) const {
    const uint32_t head = pairs.head(pair), j = pair - head * pairs.half;
    float pair_of[2] = {first, second};
    if constexpr (has_bias) {
      const T* of_first = bias + 2 * head * pairs.half + j;
      pair_of[0] += to_float(of_first[0]);
      pair_of[1] += to_float(of_first[pairs.half]);
    }
    round_to<T>(pair_of);
    if (head < key_heads) rotate(pair_of[0], pair_of[1], angles[j], angles[pairs.half + j]);
    if (!keeps(head)) return;
    T* to = target(head) + j;
    to[0] = from_float<T>(pair_of[0]);
    to[pairs.half] = from_float<T>(pair_of[1]);
  }

  __device__ __forceinline__ bool keeps(uint32_t head) const { return head < query_heads || k != nullptr; }
  __device__ __forceinline__ T* target(uint32_t head) const {
    const int64_t head_dim = int64_t{2} * pairs.half;
    if (head < query_heads) return q + head * head_dim;
    if (head < key_heads) return k + (head - query_heads) * head_dim;
    return v + (head - key_heads) * head_dim;
  }
};

template <class T, bool has_bias>
struct QkvEpilogue {
  HeadPairs pairs;
  uint32_t query_heads, key_heads;
  bool vectors;  ///< whether pairs 2i and 2i + 1 lie in one head, and can be read and written together
  const int32_t *position, *slot;
  Matrix<const float> table;
  Matrix<T> q, k, v;
  const T* bias;

  __device__ __forceinline__ QkvRow<T, has_bias> row(int64_t i) const {
    const int64_t to = slot == nullptr ? i : slot[i];
    return {pairs,
            query_heads,
            key_heads,
            vectors,
            table.at(position[i]),
            q.at(i),
            to < 0 ? nullptr : k.at(to),
            to < 0 ? nullptr : v.at(to),
            bias};
  }
};

/// An epilogue for these operands. bias may be empty if has_bias is false.
template <class T, bool has_bias>
QkvEpilogue<T, has_bias> qkv_epilogue(const Tensor& bias, const int32_t* position, const Tensor& table, const Tensor& q,
                                      const Tensor& k, const Tensor& v, const int32_t* slot) {
  const int64_t head_dim = table.columns(), key_value = k ? k.columns() : 0;
  QkvEpilogue<T, has_bias> epilogue{};
  epilogue.pairs = head_pairs(q.columns() + 2 * key_value, head_dim);
  epilogue.query_heads = static_cast<uint32_t>(q.columns() / head_dim);
  epilogue.key_heads = static_cast<uint32_t>((q.columns() + key_value) / head_dim);
  epilogue.vectors = head_dim % 4 == 0 && pairs_aligned(q) && pairs_aligned(k) && pairs_aligned(v) &&
                     pairs_aligned(table) && pairs_aligned(bias);
  epilogue.position = position;
  epilogue.slot = slot;
  epilogue.table = matrix_of<const float>(table);
  epilogue.q = matrix_of<T>(q);
  epilogue.k = matrix_of<T>(k);
  epilogue.v = matrix_of<T>(v);
  if constexpr (has_bias) epilogue.bias = bias.as<T>();
  return epilogue;
}

}  // namespace mor::cuda
