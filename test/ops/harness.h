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

Array random_array(int64_t rows, int64_t columns, uint32_t seed, double scale = 1);

/// Rounds every value to what `dtype` can hold, so that a device and the reference start from the same numbers.
Array rounded(Array a, DType dtype);

/// A row stride that leaves a gap of `gap` elements between rows. Where the columns are a multiple of 8 the gap is 8
/// times as large, so that every row begins at a multiple of 16 bytes, for which kernels have a path of their own.
inline int64_t apart(int64_t columns, int64_t gap) {
  return columns + (columns % 8 == 0 ? 8 * gap : gap);
}

/// A device buffer that holds NaN until it is written, followed by sentinels that the op must not change.
class Buffer {
 public:
  Buffer(Ops& ops, DType dtype, int64_t rows, int64_t columns, const char* name, int64_t row_stride = 0);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  Tensor tensor() const;
  void set(const Array& a);
  Array get() const;
  /// Imaginary parts, for the complex step.
  Array get_imaginary() const;
  void add_imaginary(int64_t i, int64_t j, double h);

 private:
  void put(std::vector<uint8_t>& host, int64_t i, double x) const;
  double real(const std::vector<uint8_t>& host, int64_t i) const;

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

void expect_complex_step_gradient(const PerturbedForward& forward, const Arrays& inputs, const Arrays& loss_weights,
                                  const Arrays& gradients, const std::vector<int64_t>& differentiable,
                                  double tolerance = 1e-11);

/// A device and precision to test, such as "cpu avx512 bfloat16".
struct Subject {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
  DType compute;
};

/// Every device of this machine, in every precision and CPU instruction set.
std::vector<Subject> subjects();

/// |actual - exact| may be at most twice the error of the naive op in the same precision, which is measured here, plus
/// one rounding of the largest value (docs/numerics.md). Of fewer than 8 numbers it may be 8 times that error, since
/// the naive op may have rounded them all well by luck.
void expect_close(const Array& actual, const Array& exact, const Array& naive, DType dtype, const std::string& what);

/// What inputs in one precision give: exactly, and by the naive op in that precision, which sets the tolerance.
struct Expected {
  Arrays start, exact, naive;
};

/// Runs `call` on every subject and compares with `expected_of` its precision, which is computed once for all subjects
/// of it. outputs_compute[o]: whether output o is of the compute dtype (else master).
void compare_with(const std::function<Expected(DType)>& expected_of, const OpCall& call,
                  const std::vector<bool>& outputs_compute);

Arrays rounded(const Arrays& inputs, const std::vector<bool>& inputs_compute, DType compute);

/// Runs `call` on every subject and compares with the double reference; the naive op is the float reference.
void compare_with_reference(const OpCall& call, const Arrays& inputs, const std::vector<bool>& inputs_compute,
                            const std::vector<bool>& outputs_compute);

}  // namespace mor::test
