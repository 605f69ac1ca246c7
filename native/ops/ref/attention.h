// attention: specification.
#pragma once

#include <limits>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"
#include "ops/rows.h"

namespace mor::ref {

/// Where key j of sequence s lies (rows.h).
inline int64_t key_slot(const Rows& rows, int64_t s, int64_t j) {
  if (rows.block_size == 0) return rows.key_start[s] + j;
  return int64_t{rows.block_table[s * rows.blocks_per_list + j / rows.block_size]} * rows.block_size +
         j % rows.block_size;
}

/// <a, b> / sqrt(hd): a scaled score.
template <class T>
T scaled_dot(const T* a, const T* b, int64_t head_dim) {
  T dot = 0;
  for (int64_t c = 0; c < head_dim; ++c) dot += a[c] * b[c];
  return dot / T(std::sqrt(static_cast<double>(head_dim)));
}

/// Row i, head a, key head b = a / (h/kv), over the visible keys j:
/// s_j = <q_i, k_j> / sqrt(hd), lse = log sum_j exp(s_j), p_j = exp(s_j - lse), out = sum_j p_j v_j.
/// Where nothing is visible, out = 0 and lse = -infinity.
template <class T>
void RefOps<T>::attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows,
                                  const Tensor& out, const Tensor& lse) {
  const View<T> q_(q), k_(k), v_(v), out_(out);
  const int64_t heads = q.shape[1], head_dim = q.shape[2], group = heads / k.shape[1];
  for (int64_t s = 0; s < rows.key_lists; ++s)
    for (int64_t i = rows.start[s]; i < rows.start[s + 1]; ++i)
      for (int64_t a = 0; a < heads; ++a) {
        const int64_t at = a * head_dim, key_at = a / group * head_dim, visible = rows.visible[i];
        std::vector<T> score(static_cast<size_t>(visible));
        T largest = -std::numeric_limits<double>::infinity();
        for (int64_t j = 0; j < visible; ++j) {
          score[j] = scaled_dot<T>(&q_(i, at), &k_(key_slot(rows, s, j), key_at), head_dim);
          if (real(score[j]) > real(largest)) largest = score[j];
        }
        T total = 0;
        for (int64_t j = 0; j < visible; ++j) total += std::exp(score[j] - largest);
        const T log_sum = visible == 0 ? largest : largest + std::log(total);
        for (int64_t c = 0; c < head_dim; ++c) out_(i, at + c) = 0;
        for (int64_t j = 0; j < visible; ++j) {
          const T p = std::exp(score[j] - log_sum);
          for (int64_t c = 0; c < head_dim; ++c) out_(i, at + c) += p * v_(key_slot(rows, s, j), key_at + c);
        }
        if (lse) View<T>{lse}(i, a) = log_sum;
      }
}

/// With p_j as above, delta = <d_out, out> and d_s_j = p_j (<d_out, v_j> - delta):
/// d_v_j += p_j d_out, d_q = sum_j d_s_j k_j / sqrt(hd), d_k_j += d_s_j q / sqrt(hd).
template <class T>
void RefOps<T>::attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v,
                                   const Tensor& out, const Tensor& lse, const Rows& rows, const Tensor& d_q,
                                   const Tensor& d_k, const Tensor& d_v) {
  const View<T> dout(d_out), q_(q), k_(k), v_(v), out_(out), lse_(lse), dq(d_q), dk(d_k), dv(d_v);
  const int64_t heads = q.shape[1], head_dim = q.shape[2], group = heads / k.shape[1];
  const T scale = T(1 / std::sqrt(static_cast<double>(head_dim)));
  for (int64_t s = 0; s < rows.key_lists; ++s)
    for (int64_t i = rows.start[s]; i < rows.start[s + 1]; ++i)
      for (int64_t a = 0; a < heads; ++a) {
        const int64_t at = a * head_dim, key_at = a / group * head_dim;
        T delta = 0;
        for (int64_t c = 0; c < head_dim; ++c) delta += dout(i, at + c) * out_(i, at + c);
        for (int64_t c = 0; c < head_dim; ++c) dq(i, at + c) = 0;
        for (int64_t j = 0; j < rows.visible[i]; ++j) {
          const int64_t slot = key_slot(rows, s, j);
          const T p = std::exp(scaled_dot<T>(&q_(i, at), &k_(slot, key_at), head_dim) - lse_(i, a));
          T d_p = 0;
          for (int64_t c = 0; c < head_dim; ++c) d_p += dout(i, at + c) * v_(slot, key_at + c);
          const T d_s = p * (d_p - delta) * scale;
          for (int64_t c = 0; c < head_dim; ++c) {
            dq(i, at + c) += d_s * k_(slot, key_at + c);
            dk(slot, key_at + c) += d_s * q_(i, at + c);
            dv(slot, key_at + c) += p * dout(i, at + c);
          }
        }
      }
}

}  // namespace mor::ref
