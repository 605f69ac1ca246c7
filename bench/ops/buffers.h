// Buffers: device memory with random normal numbers. With zeros multipliers would draw less power and run faster than
// they do in a model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "ops/ops.h"

namespace mor::bench {

/// Random normal numbers on the host, made once per process.
class Normals {
 public:
  Normals() {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < kCount; ++i) {
      floats_.push_back(normal(generator));
      rounded_.push_back(bfloat16(floats_.back()));
      positive_.push_back(std::fabs(floats_.back()));
    }
  }
  static constexpr size_t kCount = size_t{1} << 20;
  const float* floats() const { return floats_.data(); }
  const float* positive() const { return positive_.data(); }
  const bfloat16* rounded() const { return rounded_.data(); }

 private:
  std::vector<float> floats_, positive_;
  std::vector<bfloat16> rounded_;
};

class Buffers {
 public:
  Buffers(Ops& ops, const Normals& normals) : ops_(ops), normals_(normals), arena_(ops) {}

  /// Random normal numbers in the compute dtype.
  Tensor activations(int64_t rows, int64_t columns) { return filled(ops_.compute_dtype(), rows, columns); }
  Tensor activation_vector(int64_t n) { return as_vector(activations(n, 1)); }
  /// Likewise in the master dtype.
  Tensor masters(int64_t rows, int64_t columns) { return filled(ops_.master_dtype(), rows, columns); }
  Tensor master_vector(int64_t n) { return as_vector(masters(n, 1)); }
  /// The absolute values of normal numbers.
  Tensor positive_vector(int64_t n) {
    const Tensor t = allocate(ops_.master_dtype(), n, 1);
    upload(t, normals_.positive());
    return as_vector(t);
  }
  int32_t* integers(const std::vector<int32_t>& values) { return copied(values); }
  template <class T>
  T* copied(const std::vector<T>& values) {
    T* device = arena_.array<T>(static_cast<int64_t>(values.size()));
    ops_.copy_to_device(device, values.data(), values.size() * sizeof(T));
    return device;
  }
  /// first, first + step, …
  int32_t* counting(int64_t count, int32_t first = 0, int32_t step = 1) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < count; ++i, first += step) values.push_back(first);
    return integers(values);
  }
  /// A number below `bound` for each of `count` places.
  int32_t* random_integers(int64_t count, int64_t bound) {
    std::vector<int32_t> values;
    for (int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<int32_t>(random_() % static_cast<uint64_t>(bound)));
    return integers(values);
  }

  Ops& ops() { return ops_; }
  /// Bytes that were handed out.
  size_t used() const { return arena_.peak(); }

 private:
  Tensor allocate(DType dtype, int64_t rows, int64_t columns) { return arena_.tensor(dtype, rows, columns, "bench"); }
  Tensor filled(DType dtype, int64_t rows, int64_t columns) {
    const Tensor t = allocate(dtype, rows, columns);
    if (dtype == DType::bfloat16)
      upload(t, normals_.rounded());
    else
      upload(t, normals_.floats());
    return t;
  }
  template <class T>
  void upload(const Tensor& t, const T* values) {
    const auto count = static_cast<size_t>(t.count());
    for (size_t begin = 0; begin < count; begin += Normals::kCount)
      ops_.copy_to_device(t.as<T>() + begin, values, std::min(Normals::kCount, count - begin) * sizeof(T));
  }
  static Tensor as_vector(const Tensor& t) { return make_vector(t.data, t.dtype, t.rows(), t.name); }

  Ops& ops_;
  const Normals& normals_;
  Arena arena_;
  std::mt19937_64 random_{2};
};

}  // namespace mor::bench
