// qkv in bf16 by every class of tiles that cp.async loads: whole and partial tiles against the reference, and rows,
// which get the same bits in every class.
#include "test/cuda/gpu.h"
#include "test/ops/harness.h"

namespace mor::test {
namespace {

constexpr int64_t kPositions = 7;

struct Heads {
  int64_t query, key_value, dim;
  int64_t columns() const { return (query + 2 * key_value) * dim; }
};

/// inputs: x [R,d], weight, table, bias (no columns: none). outputs: q, and the rows' keys and values behind one
/// another in its columns.
Array project(Ops& ops, const Heads& heads, const Array& x, const Array& weight, const Array& table,
              const Array& bias) {
  const DType dtype = ops.compute_dtype();
  const int64_t rows = x.rows, d = x.columns, query = heads.query * heads.dim, key_value = heads.key_value * heads.dim;
  Buffer left(ops, dtype, rows, d, "x", (d + 7) / 8 * 8), right(ops, dtype, weight.rows, d, "weight", (d + 7) / 8 * 8);
  Buffer angles(ops, ops.master_dtype(), kPositions, heads.dim, "table");
  Buffer added(ops, dtype, 1, bias.columns, "bias");
  const Buffer qkv(ops, dtype, rows, heads.columns(), "qkv");
  std::vector<int32_t> position;
  for (int64_t i = 0; i < rows; ++i) position.push_back(static_cast<int32_t>((rows - i) % kPositions));
  const Integers positions(ops, position);
  left.set(x);
  right.set(weight);
  angles.set(table);
  added.set(bias);
  const Tensor all = qkv.tensor();
  ops.qkv_forward(left.tensor(), {right.tensor(), bias.columns > 0 ? added.tensor() : Tensor{}, {}, {}}, 0,
                  positions.data(), angles.tensor(), all.column_range(0, query), all.column_range(query, key_value),
                  all.column_range(query + key_value, key_value), nullptr, {});
  return qkv.get();
}

void expect_projections(int64_t rows, int64_t d, const Heads& heads) {
  for (const int64_t bias_columns : {int64_t{0}, heads.columns()}) {
    SCOPED_TRACE(concat(rows, " rows, d ", d, ", heads ", heads.query, " and ", heads.key_value, " of ", heads.dim,
                        ", bias of ", bias_columns));
    compare_with_reference(
        [&](Ops& ops, const Arrays& in) -> Arrays { return {project(ops, heads, in[0], in[1], in[2], in[3])}; },
        {random_array(rows, d, 1), random_array(heads.columns(), d, 2), random_array(kPositions, heads.dim, 3),
         random_array(1, bias_columns, 7)},
        {true, true, false, true}, {true});
  }
}

class QkvTile : public EveryGpuTest {
 protected:
  /// Heads whose products reach every class. Hopper's classes load pairs 8 at a time.
  Heads heads() const {
    const int64_t dim = gpu().hopper ? 48 : 46;
    return {columns_with_every_class(3 * dim, dim, gpu()) / dim - 2, 1, dim};
  }
};

TEST_P(QkvTile, MatchesReferenceInEveryClass) {
  for (const int64_t rows : {5, 16, 40, 64, 150})
    for (const Heads& heads : {Heads{3, 1, 14}, Heads{2, 1, 64}, Heads{1, 1, 128}}) expect_projections(rows, 75, heads);
  for (const cuda::ProductClass wanted : product_classes(gpu()))
    expect_projections(rows_of(wanted, heads().columns(), gpu()), 8, heads());
  expect_projections(150, 72, {3, 1, 46});  // on Hopper too, by mma.sync
}

/// All rows in the largest class, then the last of them in every other class.
TEST_P(QkvTile, RowsGetTheSameBitsInEveryClass) {
  const int64_t most = rows_of(product_classes(gpu()).back(), heads().columns(), gpu());
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::bfloat16) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Array x = random_array(most, 72, 4), weight = random_array(heads().columns(), 72, 5);
    const Array table = random_array(kPositions, heads().dim, 6);
    const Array all = project(*ops, heads(), x, weight, table, {});
    for (const cuda::ProductClass wanted : product_classes(gpu())) {
      const int64_t rows = rows_of(wanted, heads().columns(), gpu());
      Array some(rows, x.columns);
      std::copy(x.values.end() - rows * x.columns, x.values.end(), some.values.begin());
      const Array y = project(*ops, heads(), some, weight, table, {});
      for (size_t i = 0; i < y.values.size(); ++i)
        ASSERT_EQ(y.values[i], all.values[all.values.size() - y.values.size() + i]) << rows << " rows, element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Capability, QkvTile, ::testing::ValuesIn(kCapabilities));

}  // namespace
}  // namespace mor::test
