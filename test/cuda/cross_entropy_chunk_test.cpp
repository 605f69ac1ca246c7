// cross_entropy over more rows than one chunk of logits has.
#include "test/cuda/gpu.h"
#include "test/ops/harness.h"

namespace mor::test {
namespace {

/// 2048 rows are one chunk.
void expect_chunks_as_the_reference(int64_t vocabulary) {
  const int64_t rows = 2100, d = 8;
  std::vector<int32_t> target;
  for (int64_t i = 0; i < rows; ++i) target.push_back(i % 7 == 0 ? -1 : static_cast<int32_t>(i % vocabulary));
  const OpCall call = [&](Ops& ops, const Arrays& in) -> Arrays {
    const DType dtype = ops.compute_dtype();
    Buffer x(ops, dtype, rows, d, "x"), weight(ops, dtype, vocabulary, d, "weight"), d_x(ops, dtype, rows, d, "d_x");
    Buffer losses(ops, ops.master_dtype(), rows, 1, "losses"),
        d_weight(ops, ops.master_dtype(), vocabulary, d, "d_weight");
    const Integers targets(ops, target);
    x.set(in[0]);
    weight.set(in[1]);
    d_weight.set(in[2]);
    ops.cross_entropy_forward(x.tensor(), weight.tensor(), targets.data(), losses.tensor());
    const Array forward = losses.get();
    ops.cross_entropy_backward(x.tensor(), weight.tensor(), targets.data(), 0.5, losses.tensor(), d_x.tensor(),
                               d_weight.tensor());
    return {forward, losses.get(), d_x.get(), d_weight.get()};
  };
  const Arrays in = {random_array(rows, d, 1), random_array(vocabulary, d, 2), random_array(vocabulary, d, 3)};
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const Arrays start = {rounded(in[0], subject.compute), rounded(in[1], subject.compute),
                          rounded(in[2], DType::float32)};
    RefOps<double> reference;
    RefOps<float> naive;
    const Arrays exact = call(reference, start), rough = call(naive, start), actual = call(*subject.make(), start);
    for (size_t o : {0, 1}) expect_close(actual[o], exact[o], rough[o], DType::float32, concat("losses ", o));
    // A product in bfloat16 rounds gradients of logits, which are at most 0.5 here, by up to 2^-10. A sum of n such
    // errors times numbers of about 1 stays below 6 sqrt(n) times that.
    const bool rounds = subject.compute == DType::bfloat16;
    const double of_d_x = 6 * std::sqrt(vocabulary) * 0x1p-10, of_d_weight = 6 * std::sqrt(rows) * 0x1p-10;
    for (size_t o : {2, 3})
      for (size_t i = 0; i < exact[o].values.size(); ++i) {
        const double allowed = !rounds ? 1e-5 * (1 + std::abs(exact[o].values[i])) : o == 2 ? of_d_x : of_d_weight;
        ASSERT_NEAR(actual[o].values[i], exact[o].values[i], allowed) << "output " << o << ", element " << i;
      }
  }
}

using CrossEntropyChunk = GpuTest;

TEST_F(CrossEntropyChunk, ManyRowsMatchReference) {
  expect_chunks_as_the_reference(12);
}

/// The products of whole chunks take wide tiles, if the GPU has them. The host run leaves this out: millions of logits.
TEST_F(CrossEntropyChunk, LargeVocabulariesMatchReferenceOnlyOnAGpu) {
  int64_t vocabulary = 1000;
  while (cuda::product_class(2048, vocabulary, gpu()) != product_classes(gpu()).back()) vocabulary += 20;
  expect_chunks_as_the_reference(vocabulary);
}

}  // namespace
}  // namespace mor::test
