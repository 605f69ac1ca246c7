// Tests of rotary: the reference against the complex step, and every device against the reference.
#include "test/ops/perturb.h"
#include "test/ops/rotary_angles.h"

namespace mor::test {
namespace {

/// inputs: x [R, heads*hd], table. outputs: x after rotary. Its rows lie in a wider buffer, like those of q beside k
/// and v.
Forward rotated_heads(int64_t head_dim, int direction) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const int64_t rows = in[0].rows, columns = in[0].columns;
    Buffer x(ops, ops.compute_dtype(), rows, columns, "x", apart(columns, 7));
    Buffer table(ops, ops.master_dtype(), kPositions, head_dim, "table");
    Integers position(ops, positions(rows));
    fill(x, in[0], 0, step);
    table.set(in[1]);
    ops.rotary(x.tensor().heads(head_dim), position.data(), table.tensor(), direction);
    return {read(x, step)};
  };
}

TEST(Rotary, BackwardIsTheGradient) {
  const Array x = random_array(3, 12, 1), loss = random_array(3, 12, 2), table = angles(6);
  RefOps<double> ops;
  expect_reference_gradient(rotated_heads(6, 1), {x, table}, {loss}, rotated_heads(6, -1)(ops, {loss, table}, {}), {0});
}

TEST(Rotary, PairsRotateByTheAngle) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Array x(1, 2);
    x(0, 0) = 1;
    Array table = angles(2);
    const Array y = rotated_heads(2, 1)(*ops, {x, table}, {})[0];  // row 0 is at position 3
    EXPECT_NEAR(y(0, 0), std::cos(3.0), 0.005);
    EXPECT_NEAR(y(0, 1), std::sin(3.0), 0.005);
  }
}

TEST(Rotary, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 64})
    for (int64_t heads : {1, 3})
      for (int64_t head_dim : {2, 30, 64, 128})
        for (int direction : {1, -1})
          compare_with_reference(plainly(rotated_heads(head_dim, direction)),
                                 {random_array(rows, heads * head_dim, 3), angles(head_dim)}, {true, false}, {true});
}

TEST(Rotary, WrongShapesAreNamed) {
  const auto call = [](int64_t columns, int direction) {
    return [=](Ops& ops) {
      Buffer x(ops, ops.compute_dtype(), 2, columns, "x"), table(ops, ops.master_dtype(), kPositions, 8, "table");
      Integers position(ops, {0, 0});
      ops.rotary(x.tensor(), position.data(), table.tensor(), direction);
    };
  };
  expect_invalid(call(12, 1), "rotary: x has 12 columns, but whole heads of the table's 8 (an even number) are needed");
  expect_invalid(call(16, 0), "rotary: direction is 0, but 1 (forward) or -1 (backward) is needed");
}

}  // namespace
}  // namespace mor::test
