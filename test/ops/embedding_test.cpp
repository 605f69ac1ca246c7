// Tests of embedding: the reference against the complex step, and every device against the reference.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

constexpr int64_t kVocabulary = 11;

/// Some tokens repeat, so that several gradients add up in one row.
std::vector<int32_t> tokens_of(int64_t rows) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < rows; ++i) tokens.push_back(static_cast<int32_t>(i * i % kVocabulary));
  return tokens;
}

/// inputs: weight [V,d]. outputs: out [R,d].
Forward forward(int64_t rows) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const int64_t d = in[0].columns;
    Buffer weight(ops, ops.compute_dtype(), kVocabulary, d, "weight"), out(ops, ops.compute_dtype(), rows, d, "out");
    Integers tokens(ops, tokens_of(rows));
    fill(weight, in[0], 0, step);
    ops.embedding_forward(tokens.data(), weight.tensor(), out.tensor());
    return {read(out, step)};
  };
}

/// inputs: d_out [R,d], start value of d_weight [V,d]. The backward runs twice into the same buffer.
Arrays backward_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, d = in[0].columns;
  Buffer d_out(ops, ops.compute_dtype(), rows, d, "d_out"),
      d_weight(ops, ops.master_dtype(), kVocabulary, d, "d_weight");
  Integers tokens(ops, tokens_of(rows));
  d_out.set(in[0]);
  d_weight.set(in[1]);
  for (int time = 0; time < 2; ++time) ops.embedding_backward(tokens.data(), d_out.tensor(), d_weight.tensor());
  return {d_weight.get()};
}

TEST(Embedding, ReferenceGradientIsTheComplexStep) {
  const Array weight = random_array(kVocabulary, 3, 1), loss = random_array(6, 3, 2);
  RefOps<double> ops;
  const Arrays twice = backward_twice(ops, {loss, Array(kVocabulary, 3)});
  expect_reference_gradient(forward(6), {weight}, {loss}, {halved(twice[0])}, {0});
}

TEST(Embedding, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 200})
    for (int64_t d : {1, 15, 64, 577}) {
      compare_with_reference(plainly(forward(rows)), {random_array(kVocabulary, d, 3)}, {true}, {true});
      compare_with_reference(backward_twice, {random_array(rows, d, 4), random_array(kVocabulary, d, 5)}, {true, false},
                             {false});
    }
}

TEST(Embedding, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer weight(ops, ops.compute_dtype(), kVocabulary, 7, "weight"), out(ops, ops.compute_dtype(), 2, 8, "out");
        Integers tokens(ops, {0, 1});
        ops.embedding_forward(tokens.data(), weight.tensor(), out.tensor());
      },
      "embedding_forward: weight is 11 x 7, but 11 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
