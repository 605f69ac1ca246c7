// What op tests share: random host arrays, the devices under test, the complex step, and tolerances that follow from
// the precision.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/device.h"
#include "ops/ops.h"
#include "ops/ref/ref_ops.h"
#include "test/test_devices.h"

namespace mor::test {

using Complex = std::complex<double>;

/// A host matrix in double, which tests draw, perturb and compare.
struct Array {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;
  Array() = default;
  Array(int64_t r, int64_t c, double fill = 0) : rows(r), columns(c), values(static_cast<size_t>(r * c), fill) {}
  double& operator()(int64_t i, int64_t j = 0) { return values[static_cast<size_t>(i * columns + j)]; }
  double operator()(int64_t i, int64_t j = 0) const { return values[static_cast<size_t>(i * columns + j)]; }
};

inline Array random_array(int64_t rows, int64_t columns, uint32_t seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, scale);
  Array a(rows, columns);
  for (double& x : a.values) x = normal(generator);
  return a;
}

/// Rounds every value to what `dtype` can hold, so that a device and the reference start from the same numbers.
inline Array rounded(Array a, DType dtype) {
  for (double& x : a.values) {
    if (dtype == DType::bfloat16) x = static_cast<float>(bfloat16(static_cast<float>(x)));
    if (dtype == DType::float32) x = static_cast<float>(x);
  }
  return a;
}

/// A row stride that leaves a gap of `gap` elements between rows. Where the columns are a multiple of 8 the gap is 8
/// times as large, so that every row begins at a multiple of 16 bytes, for which kernels have a path of their own.
inline int64_t apart(int64_t columns, int64_t gap) {
  return columns + (columns % 8 == 0 ? 8 * gap : gap);
}

/// A device buffer that holds NaN until it is written, followed by sentinels that the op must not change.
class Buffer {
 public:
  Buffer(Ops& ops, DType dtype, int64_t rows, int64_t columns, const char* name, int64_t row_stride = 0)
      : ops_(ops),
        rows_(rows),
        columns_(columns),
        stride_(row_stride == 0 ? columns : row_stride),
        dtype_(dtype),
        name_(name) {
    bytes_ = static_cast<size_t>(rows_ * stride_) * dtype_size(dtype);
    data_ = static_cast<char*>(ops_.allocate(bytes_ + kSentinel));
    std::vector<uint8_t> host(bytes_ + kSentinel, 0xff);  // 0xff… is a NaN in every float type
    std::fill(host.begin() + static_cast<long>(bytes_), host.end(), uint8_t{0xa5});
    ops_.copy_to_device(data_, host.data(), host.size());
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    std::vector<uint8_t> tail(kSentinel);
    ops_.copy_to_host(tail.data(), data_ + bytes_, kSentinel);
    for (uint8_t byte : tail) EXPECT_EQ(byte, 0xa5) << name_ << ": written past its end";
    ops_.release(data_, bytes_ + kSentinel);
  }

  Tensor tensor() const {
    Tensor t = make_tensor(data_, dtype_, rows_, columns_, name_);
    t.row_stride = stride_;
    return t;
  }
  void set(const Array& a) {
    std::vector<uint8_t> host(bytes_);
    ops_.copy_to_host(host.data(), data_, bytes_);
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t j = 0; j < columns_; ++j) put(host, i * stride_ + j, a(i, j));
    ops_.copy_to_device(data_, host.data(), bytes_);
  }
  Array get() const {
    std::vector<uint8_t> host(bytes_);
    ops_.copy_to_host(host.data(), data_, bytes_);
    Array a(rows_, columns_);
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t j = 0; j < columns_; ++j) a(i, j) = real(host, i * stride_ + j);
    return a;
  }
  /// Imaginary parts, for the complex step.
  Array get_imaginary() const {
    Array a(rows_, columns_);
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t j = 0; j < columns_; ++j) a(i, j) = reinterpret_cast<Complex*>(data_)[i * stride_ + j].imag();
    return a;
  }
  void add_imaginary(int64_t i, int64_t j, double h) {
    reinterpret_cast<Complex*>(data_)[i * stride_ + j] += Complex(0, h);
  }

 private:
  static constexpr size_t kSentinel = 64;
  void put(std::vector<uint8_t>& host, int64_t i, double x) const {
    void* to = host.data() + static_cast<size_t>(i) * dtype_size(dtype_);
    if (dtype_ == DType::float32) *static_cast<float*>(to) = static_cast<float>(x);
    if (dtype_ == DType::bfloat16) *static_cast<bfloat16*>(to) = bfloat16(static_cast<float>(x));
    if (dtype_ == DType::float64) *static_cast<double*>(to) = x;
    if (dtype_ == DType::complex128) *static_cast<Complex*>(to) = x;
  }
  double real(const std::vector<uint8_t>& host, int64_t i) const {
    const void* from = host.data() + static_cast<size_t>(i) * dtype_size(dtype_);
    if (dtype_ == DType::float32) return *static_cast<const float*>(from);
    if (dtype_ == DType::bfloat16) return static_cast<float>(*static_cast<const bfloat16*>(from));
    if (dtype_ == DType::float64) return *static_cast<const double*>(from);
    return static_cast<const Complex*>(from)->real();
  }

  Ops& ops_;
  int64_t rows_, columns_, stride_;
  DType dtype_;
  const char* name_;
  size_t bytes_;
  char* data_;
};

/// Integers in device memory.
class Integers {
 public:
  Integers(Ops& ops, const std::vector<int32_t>& values) : ops_(ops), n_(values.size()) {
    data_ = static_cast<int32_t*>(ops_.allocate(n_ * sizeof(int32_t) + 4));
    ops_.copy_to_device(data_, values.data(), n_ * sizeof(int32_t));
  }
  Integers(const Integers&) = delete;
  Integers& operator=(const Integers&) = delete;
  ~Integers() { ops_.release(data_, n_ * sizeof(int32_t) + 4); }
  int32_t* data() const { return data_; }
  std::vector<int32_t> get() const {
    std::vector<int32_t> values(n_);
    ops_.copy_to_host(values.data(), data_, n_ * sizeof(int32_t));
    return values;
  }

 private:
  Ops& ops_;
  size_t n_;
  int32_t* data_;
};

/// An op as a test sees it: sets its buffers up on any device, calls the op, and returns the outputs.
using Arrays = std::vector<Array>;
using OpCall = std::function<Arrays(Ops& ops, const Arrays& inputs)>;

/// Proves a reference gradient by the complex step: for L = sum(weights * output), dL/dx = imag(L(x + ih)) / h.
/// `forward` must take the step in input `step.input` (`fill` of perturb.h does) and return imaginary parts.
struct Step {
  int64_t input = -1, i = 0, j = 0;
  double h = 1e-50;
};
using PerturbedForward =
    std::function<Arrays(RefOps<Complex>& ops, const Arrays& inputs, const Step& step)>;  // imaginary parts

inline void expect_complex_step_gradient(const PerturbedForward& forward, const Arrays& inputs,
                                         const Arrays& loss_weights, const Arrays& gradients,
                                         const std::vector<int64_t>& differentiable, double tolerance = 1e-11) {
  RefOps<Complex> ops;
  for (size_t g = 0; g < differentiable.size(); ++g) {
    const int64_t input = differentiable[g];
    const Array& gradient = gradients[g];
    double scale = 1e-30;
    for (double x : gradient.values) scale = std::max(scale, std::abs(x));
    for (int64_t i = 0; i < gradient.rows; ++i)
      for (int64_t j = 0; j < gradient.columns; ++j) {
        Step step;
        step.input = input;
        step.i = i;
        step.j = j;
        const Arrays imaginary = forward(ops, inputs, step);
        double expected = 0;
        for (size_t o = 0; o < imaginary.size(); ++o)
          for (size_t e = 0; e < imaginary[o].values.size(); ++e)
            expected += loss_weights[o].values[e] * imaginary[o].values[e] / step.h;
        ASSERT_NEAR(gradient(i, j), expected, tolerance * scale) << "input " << input << " at " << i << "," << j;
      }
  }
}

/// A device and precision to test, such as "cpu avx512 bfloat16".
struct Subject {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
  DType compute;
};

/// Every device of this machine, in every precision and CPU instruction set.
inline std::vector<Subject> subjects() {
  std::vector<Subject> list;
  for (const TestDevice& device : test_devices())
    for (DType dtype : device.dtypes)
      list.push_back({device.name + " " + dtype_name(dtype), [device, dtype] { return device.make(dtype); }, dtype});
  return list;
}

/// |actual - exact| may be at most twice the error of the naive op in the same precision, which is measured here, plus
/// one rounding of the largest value (docs/numerics.md). Of fewer than 8 numbers it may be 8 times that error, since
/// the naive op may have rounded them all well by luck.
inline void expect_close(const Array& actual, const Array& exact, const Array& naive, DType dtype,
                         const std::string& what) {
  ASSERT_EQ(actual.rows, exact.rows) << what;
  ASSERT_EQ(actual.columns, exact.columns) << what;
  double naive_error = 0, largest = 0;
  for (size_t i = 0; i < exact.values.size(); ++i) {
    naive_error = std::max(naive_error, std::abs(naive.values[i] - exact.values[i]));
    largest = std::max(largest, std::abs(exact.values[i]));
  }
  const double unit = dtype == DType::bfloat16 ? std::ldexp(1.0, -8) : std::ldexp(1.0, -23);
  const double tolerance = (exact.values.size() < 8 ? 8 : 2) * naive_error + unit * largest;
  for (size_t i = 0; i < exact.values.size(); ++i)
    ASSERT_LE(std::abs(actual.values[i] - exact.values[i]), tolerance)
        << what << " at " << static_cast<int64_t>(i) / exact.columns << "," << static_cast<int64_t>(i) % exact.columns
        << ": " << actual.values[i] << " instead of " << exact.values[i];
}

/// What inputs in one precision give: exactly, and by the naive op in that precision, which sets the tolerance.
struct Expected {
  Arrays start, exact, naive;
};

/// Runs `call` on every subject and compares with `expected_of` its precision, which is computed once for all subjects
/// of it. outputs_compute[o]: whether output o is of the compute dtype (else master).
inline void compare_with(const std::function<Expected(DType)>& expected_of, const OpCall& call,
                         const std::vector<bool>& outputs_compute) {
  std::map<DType, Expected> by_dtype;
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const DType compute = subject.compute;
    if (by_dtype.count(compute) == 0) by_dtype[compute] = expected_of(compute);
    const Expected& expected = by_dtype[compute];
    const Arrays actual = call(*subject.make(), expected.start);
    ASSERT_EQ(actual.size(), expected.exact.size());
    for (size_t o = 0; o < actual.size(); ++o) {
      const DType dtype = outputs_compute[o] ? compute : DType::float32;
      expect_close(actual[o], expected.exact[o], rounded(expected.naive[o], dtype), dtype,
                   "output " + std::to_string(o));
    }
  }
}

inline Arrays rounded(const Arrays& inputs, const std::vector<bool>& inputs_compute, DType compute) {
  Arrays start;
  for (size_t i = 0; i < inputs.size(); ++i)
    start.push_back(rounded(inputs[i], inputs_compute[i] ? compute : DType::float32));
  return start;
}

/// Runs `call` on every subject and compares with the double reference; the naive op is the float reference.
inline void compare_with_reference(const OpCall& call, const Arrays& inputs, const std::vector<bool>& inputs_compute,
                                   const std::vector<bool>& outputs_compute) {
  const auto expected_of = [&](DType compute) -> Expected {
    RefOps<double> exact_ops;
    RefOps<float> naive_ops;
    const Arrays start = rounded(inputs, inputs_compute, compute);
    return {start, call(exact_ops, start), call(naive_ops, start)};
  };
  compare_with(expected_of, call, outputs_compute);
}

}  // namespace mor::test
