// attention: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"
#include "ops/rows.h"

namespace mor {

/// rows x heads x head_dim, in the dtype of `like`.
inline void check_heads(const char* op, const Tensor& tensor, int64_t rows, const Tensor& like, int64_t heads) {
  const int64_t head_dim = like.shape[2];
  MOR_CHECK(tensor.rank == 3, INVALID_ARGUMENT, op, ": ", tensor.name, " has rank ", tensor.rank,
            ", but [rows, heads, head dim] is needed");
  MOR_CHECK(tensor.shape[0] == rows && tensor.shape[1] == heads && tensor.shape[2] == head_dim, INVALID_ARGUMENT, op,
            ": ", tensor.name, " is ", tensor.shape[0], " x ", tensor.shape[1], " x ", tensor.shape[2], ", but ", rows,
            " x ", heads, " x ", head_dim, " is needed");
  MOR_CHECK(tensor.data != nullptr || tensor.count() == 0, INVALID_ARGUMENT, op, ": ", tensor.name, " is empty, but ",
            rows, " x ", heads, " x ", head_dim, " is needed");
  check_dtype(op, tensor, like.dtype);
}

inline void check_attention(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows,
                            const Tensor& out) {
  check_heads(op, q, rows.count, q, q.shape[1]);
  check_heads(op, k, k.rows(), q, k.shape[1]);
  check_heads(op, v, k.rows(), q, k.shape[1]);
  check_heads(op, out, rows.count, q, q.shape[1]);
  const int64_t heads = q.shape[1], key_heads = k.shape[1];
  MOR_CHECK(q.shape[2] > 0, INVALID_ARGUMENT, op, ": q has head dim 0, but at least 1 is needed");
  MOR_CHECK(key_heads > 0 && heads % key_heads == 0, INVALID_ARGUMENT, op, ": ", heads, " query heads over ", key_heads,
            " key heads, but a multiple is needed");
  if (rows.count == 0) return;
  MOR_CHECK(rows.start != nullptr && rows.visible != nullptr, INVALID_ARGUMENT, op,
            ": rows need `start` and `visible`");
  MOR_CHECK((rows.block_size == 0 ? rows.key_start : rows.block_table) != nullptr, INVALID_ARGUMENT, op,
            ": rows with block_size ", rows.block_size, " need `", rows.block_size == 0 ? "key_start" : "block_table",
            "`");
}

inline void check_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows,
                                    const Tensor& out, const Tensor& lse) {
  const char* op = "attention_forward";
  check_attention(op, q, k, v, rows, out);
  if (lse) check_shape(op, lse, rows.count, q.shape[1]);
}

inline void check_attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v,
                                     const Tensor& out, const Tensor& lse, const Rows& rows, const Tensor& d_q,
                                     const Tensor& d_k, const Tensor& d_v) {
  const char* op = "attention_backward";
  check_attention(op, q, k, v, rows, out);
  check_shape(op, lse, rows.count, q.shape[1]);
  check_heads(op, d_out, rows.count, q, q.shape[1]);
  check_heads(op, d_q, rows.count, q, q.shape[1]);
  check_heads(op, d_k, k.rows(), q, k.shape[1]);
  check_heads(op, d_v, k.rows(), q, k.shape[1]);
  MOR_CHECK(rows.block_size == 0, INVALID_ARGUMENT, op, ": keys in blocks of ", rows.block_size,
            ", but a backward pass needs them in one run (block_size 0)");
}

}  // namespace mor
