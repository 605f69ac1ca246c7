// The uses of qkv that its tests go through (with which vectors beside the weight, and with keys and values where), and
// the forward of one use.
#pragma once

#include "test/ops/perturb.h"
#include "test/ops/rotary_angles.h"

namespace mor::test {

/// It is large so that it changes results, and so that the norm of a small head does not magnify the rounding errors of
/// its product.
constexpr double kEpsilon = 0.5;

/// Which vectors a layer has beside the weight, and whether the forward keeps the columns before norms and rotary.
struct Extras {
  bool bias = false, norms = false, keeps = false;
};

struct Form {
  int64_t heads, key_value_heads, head_dim;
  enum class Keys { none, beside_queries, apart, in_slots } keys;
  int64_t wider = 0;  ///< columns that lie beside every operand's own
  Extras extras = {};

  int64_t query_size() const { return heads * head_dim; }
  int64_t key_value_size() const { return keys == Keys::none ? 0 : key_value_heads * head_dim; }
  int64_t weight_rows() const { return query_size() + 2 * key_value_size(); }
};

constexpr Form::Keys kKeys[] = {Form::Keys::none, Form::Keys::beside_queries, Form::Keys::apart, Form::Keys::in_slots};
constexpr Extras kExtras[] = {{}, {true, false}, {false, true}, {true, true}, {true, true, true}, {false, false, true}};

inline std::string describe(const Form& form) {
  return concat("heads ", form.heads, " and ", form.key_value_heads, " of ", form.head_dim, ", keys ",
                static_cast<int>(form.keys), ", wider ", form.wider, form.extras.bias ? ", bias" : "",
                form.extras.norms ? ", norms" : "", form.extras.keeps ? ", kept" : "");
}

/// Every use with small heads: one pair, an odd number of pairs, pairs that fill no vector, pairs that fill vectors.
/// The rows of buffers are apart by nothing, by columns that leave them aligned, and by columns that do not.
inline std::vector<Form> small_forms() {
  std::vector<Form> forms;
  for (const Extras& extras : kExtras)
    for (const Form::Keys keys : kKeys)
      for (const auto& [heads, key_value_heads, head_dim] :
           {std::tuple<int64_t, int64_t, int64_t>{7, 5, 2}, {3, 1, 6}, {4, 2, 10}, {2, 1, 64}})
        for (const int64_t wider : {0, 3, 8}) forms.push_back({heads, key_value_heads, head_dim, keys, wider, extras});
  return forms;
}

/// Every other one of 2 rows + 1 slots, in falling order. The third row and every seventh after it has no slot.
inline std::vector<int32_t> slots_of(int64_t rows) {
  std::vector<int32_t> slot;
  for (int64_t i = 0; i < rows; ++i) slot.push_back(i % 7 == 2 ? -1 : static_cast<int32_t>(2 * (rows - i) - 1));
  return slot;
}

/// bias [1,n], q_norm and k_norm [1,hd]. A use takes those that it has.
struct Vectors {
  Buffer bias, q_norm, k_norm;
  Vectors(Ops& ops, const Form& form, DType dtype)
      : bias(ops, dtype, 1, form.weight_rows(), "bias"),
        q_norm(ops, dtype, 1, form.head_dim, "q_norm"),
        k_norm(ops, dtype, 1, form.head_dim, "k_norm") {}
  QkvTensors with(const Tensor& weight, const Form& form) const {
    QkvTensors tensors{weight, {}, {}, {}};
    if (form.extras.bias) tensors.bias = bias.tensor();
    if (form.extras.norms) tensors.q_norm = q_norm.tensor(), tensors.k_norm = k_norm.tensor();
    return tensors;
  }
};

/// inputs: x [R,d], weight, table, what the slots of k and v hold before ([2R+1,kv*hd] each), bias, q_norm, k_norm.
/// outputs: q, k and v in one if they lie beside each other, else q, then all slots of k and of v if there are keys;
/// then the projected columns if they are kept.
inline Forward qkv_forward(const Form& form) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const DType compute = ops.compute_dtype();
    const int64_t rows = in[0].rows, d = in[0].columns, query = form.query_size(), key_value = form.key_value_size();
    Buffer x(ops, compute, rows, d, "x", d + form.wider);
    Buffer weight(ops, compute, form.weight_rows(), d, "weight", d + form.wider);
    Buffer table(ops, ops.master_dtype(), kPositions, form.head_dim, "table", form.head_dim + form.wider);
    Buffer projected(ops, compute, rows, form.weight_rows(), "projected", form.weight_rows() + form.wider);
    Vectors vectors(ops, form, compute);
    Integers position(ops, positions(rows)), slot(ops, slots_of(rows));
    fill(x, in[0], 0, step);
    fill(weight, in[1], 1, step);
    table.set(in[2]);
    fill(vectors.bias, in[5], 5, step);
    fill(vectors.q_norm, in[6], 6, step);
    fill(vectors.k_norm, in[7], 7, step);
    const auto run = [&](const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* to) {
      const auto heads = [&](const Tensor& tensor) { return tensor ? tensor.heads(form.head_dim) : tensor; };
      ops.qkv_forward(x.tensor(), vectors.with(weight.tensor(), form), kEpsilon, position.data(), table.tensor(),
                      heads(q), heads(k), heads(v), to, form.extras.keeps ? projected.tensor() : Tensor{});
    };
    const auto with_kept = [&](Arrays outputs) {
      if (form.extras.keeps) outputs.push_back(read(projected, step));
      return outputs;
    };
    if (form.keys == Form::Keys::beside_queries) {
      Buffer qkv(ops, compute, rows, form.weight_rows(), "qkv", form.weight_rows() + form.wider);
      const Tensor all = qkv.tensor();
      run(all.column_range(0, query), all.column_range(query, key_value),
          all.column_range(query + key_value, key_value), nullptr);
      return with_kept({read(qkv, step)});
    }
    Buffer q(ops, compute, rows, query, "q", query + form.wider);
    if (form.keys == Form::Keys::none) {
      run(q.tensor(), {}, {}, nullptr);
      return with_kept({read(q, step)});
    }
    Buffer k(ops, compute, 2 * rows + 1, key_value, "k", key_value + form.wider);
    Buffer v(ops, compute, 2 * rows + 1, key_value, "v", key_value + form.wider);
    fill(k, in[3], 3, step);
    fill(v, in[4], 4, step);
    run(q.tensor(), k.tensor(), v.tensor(), form.keys == Form::Keys::in_slots ? slot.data() : nullptr);
    return with_kept({read(q, step), read(k, step), read(v, step)});
  };
}

inline Arrays qkv_inputs(const Form& form, int64_t rows, int64_t d) {
  return {random_array(rows, d, 1),
          random_array(form.weight_rows(), d, 2, 1 / std::sqrt(static_cast<double>(d))),  // columns of about 1
          angles(form.head_dim),
          random_array(2 * rows + 1, form.key_value_size(), 3),
          random_array(2 * rows + 1, form.key_value_size(), 4),
          random_array(1, form.weight_rows(), 5),
          random_array(1, form.head_dim, 6),
          random_array(1, form.head_dim, 7)};
}

}  // namespace mor::test
