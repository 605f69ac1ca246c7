// Lets one function run an op both plainly and under the complex step.
#pragma once

#include "test/ops/harness.h"

namespace mor::test {

/// Sets input number `input`, and takes the imaginary step where it is this input's turn.
inline void fill(Buffer& buffer, const Array& values, int64_t input, const Step& step) {
  buffer.set(values);
  if (step.input == input) buffer.add_imaginary(step.i, step.j, step.h);
}

inline Array read(const Buffer& buffer, const Step& step) {
  return step.input < 0 ? buffer.get() : buffer.get_imaginary();
}

/// An op's forward: inputs in, outputs out; imaginary parts where a step is taken.
using Forward = std::function<Arrays(Ops& ops, const Arrays& inputs, const Step& step)>;

inline void expect_reference_gradient(const Forward& forward, const Arrays& inputs, const Arrays& loss_weights,
                                      const Arrays& gradients, const std::vector<int64_t>& differentiable) {
  expect_complex_step_gradient(
      [&](RefOps<Complex>& ops, const Arrays& in, const Step& step) { return forward(ops, in, step); }, inputs,
      loss_weights, gradients, differentiable);
}

inline OpCall plainly(const Forward& forward) {
  return [forward](Ops& ops, const Arrays& inputs) { return forward(ops, inputs, Step{}); };
}

inline Array halved(Array a) {
  for (double& value : a.values) value /= 2;
  return a;
}

/// The call must throw INVALID_ARGUMENT with this message on every device.
inline void expect_invalid(const std::function<void(Ops& ops)>& call, const std::string& message) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    try {
      call(*ops);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
      EXPECT_EQ(std::string(error.what()), message);
    }
  }
}

}  // namespace mor::test
