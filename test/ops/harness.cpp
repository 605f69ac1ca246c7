// The parts of the op tests' harness that run often or are long: they are compiled once, and optimised.
#include "test/ops/harness.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "device/device.h"
#include "test/test_devices.h"

namespace mor::test {

namespace {

constexpr size_t kSentinel = 64;  ///< bytes behind the last element of a buffer

}  // namespace

Array random_array(int64_t rows, int64_t columns, uint32_t seed, double scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, scale);
  Array a(rows, columns);
  for (double& x : a.values) x = normal(generator);
  return a;
}

Array rounded(Array a, DType dtype) {
  for (double& x : a.values) {
    if (dtype == DType::bfloat16) x = static_cast<float>(bfloat16(static_cast<float>(x)));
    if (dtype == DType::float32) x = static_cast<float>(x);
  }
  return a;
}

Buffer::Buffer(Ops& ops, DType dtype, int64_t rows, int64_t columns, const char* name, int64_t row_stride)
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

Buffer::~Buffer() {
  std::vector<uint8_t> tail(kSentinel);
  ops_.copy_to_host(tail.data(), data_ + bytes_, kSentinel);
  for (uint8_t byte : tail) EXPECT_EQ(byte, 0xa5) << name_ << ": written past its end";
  ops_.release(data_, bytes_ + kSentinel);
}

Tensor Buffer::tensor() const {
  Tensor t = make_tensor(data_, dtype_, rows_, columns_, name_);
  t.row_stride = stride_;
  return t;
}

void Buffer::set(const Array& a) {
  std::vector<uint8_t> host(bytes_);
  ops_.copy_to_host(host.data(), data_, bytes_);
  for (int64_t i = 0; i < rows_; ++i)
    for (int64_t j = 0; j < columns_; ++j) put(host, i * stride_ + j, a(i, j));
  ops_.copy_to_device(data_, host.data(), bytes_);
}

Array Buffer::get() const {
  std::vector<uint8_t> host(bytes_);
  ops_.copy_to_host(host.data(), data_, bytes_);
  Array a(rows_, columns_);
  for (int64_t i = 0; i < rows_; ++i)
    for (int64_t j = 0; j < columns_; ++j) a(i, j) = real(host, i * stride_ + j);
  return a;
}

Array Buffer::get_imaginary() const {
  Array a(rows_, columns_);
  for (int64_t i = 0; i < rows_; ++i)
    for (int64_t j = 0; j < columns_; ++j) a(i, j) = reinterpret_cast<Complex*>(data_)[i * stride_ + j].imag();
  return a;
}

void Buffer::add_imaginary(int64_t i, int64_t j, double h) {
  reinterpret_cast<Complex*>(data_)[i * stride_ + j] += Complex(0, h);
}

void Buffer::put(std::vector<uint8_t>& host, int64_t i, double x) const {
  void* to = host.data() + static_cast<size_t>(i) * dtype_size(dtype_);
  if (dtype_ == DType::float32) *static_cast<float*>(to) = static_cast<float>(x);
  if (dtype_ == DType::bfloat16) *static_cast<bfloat16*>(to) = bfloat16(static_cast<float>(x));
  if (dtype_ == DType::float64) *static_cast<double*>(to) = x;
  if (dtype_ == DType::complex128) *static_cast<Complex*>(to) = x;
}

double Buffer::real(const std::vector<uint8_t>& host, int64_t i) const {
  const void* from = host.data() + static_cast<size_t>(i) * dtype_size(dtype_);
  if (dtype_ == DType::float32) return *static_cast<const float*>(from);
  if (dtype_ == DType::bfloat16) return static_cast<float>(*static_cast<const bfloat16*>(from));
  if (dtype_ == DType::float64) return *static_cast<const double*>(from);
  return static_cast<const Complex*>(from)->real();
}

void expect_complex_step_gradient(const PerturbedForward& forward, const Arrays& inputs, const Arrays& loss_weights,
                                  const Arrays& gradients, const std::vector<int64_t>& differentiable,
                                  double tolerance) {
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

std::vector<Subject> subjects() {
  std::vector<Subject> list;
  for (const TestDevice& device : test_devices())
    for (DType dtype : device.dtypes)
      list.push_back({device.name + " " + dtype_name(dtype), [device, dtype] { return device.make(dtype); }, dtype});
  return list;
}

void expect_close(const Array& actual, const Array& exact, const Array& naive, DType dtype, const std::string& what) {
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

void compare_with(const std::function<Expected(DType)>& expected_of, const OpCall& call,
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

Arrays rounded(const Arrays& inputs, const std::vector<bool>& inputs_compute, DType compute) {
  Arrays start;
  for (size_t i = 0; i < inputs.size(); ++i)
    start.push_back(rounded(inputs[i], inputs_compute[i] ? compute : DType::float32));
  return start;
}

void compare_with_reference(const OpCall& call, const Arrays& inputs, const std::vector<bool>& inputs_compute,
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
