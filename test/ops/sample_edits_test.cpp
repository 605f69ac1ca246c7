// Tests of the edits of logits in sample: biases and penalties change the draw, and nothing that is reported.
#include "test/ops/perturb.h"
#include "test/ops/sample_rows.h"

namespace mor::test {
namespace {

/// The logit that an edit makes of another, by the definitions of OpenAI (bias, penalties) and of vLLM.
double edited(double logit, const LogitEdit& edit) {
  double l = logit + double{edit.bias};
  if (l > 0) {
    l /= double{edit.repetition};
  } else {
    l *= double{edit.repetition};
  }
  return l - double{edit.penalty};
}

TEST(SampleEdits, EditsChangeTheDrawAndNoLogprob) {
  for_each_ops([](Ops& ops) {
    const Array logits = row({1, 4, 2, -1, 3});
    const auto greedy = [&](const std::vector<LogitEdit>& edits) {
      return sample(ops, logits, {edited_by(with(0, 0, 1), edits)});
    };
    EXPECT_EQ(greedy({{.token = 0, .bias = 3.5f}}).token[0], 0);
    EXPECT_EQ(greedy({{.token = 1, .bias = -1.5f}}).token[0], 4);
    EXPECT_EQ(greedy({{.token = 1, .bias = -std::numeric_limits<float>::infinity()}}).token[0], 4);
    EXPECT_EQ(greedy({{.token = 1, .repetition = 1.3f}}).token[0], 1);
    EXPECT_EQ(greedy({{.token = 1, .repetition = 1.4f}}).token[0], 4);
    EXPECT_EQ(greedy({{.token = 1, .penalty = 1.5f}, {.token = 4, .penalty = 1.5f}}).token[0], 1);
    // The bias comes first: 4 - 3 = 1, times 2 and not 4 / 0.5 - 3 = 5.
    EXPECT_EQ(greedy({{.token = 1, .bias = -3, .repetition = 0.5f}}).token[0], 4);
    // A negative logit is multiplied: -1 / 0.1 would be less than all others, and -1 * 0.1 is more than those here.
    std::vector<LogitEdit> low;
    for (int32_t token : {0, 1, 2, 4}) low.push_back({.token = token, .penalty = 10});
    low.insert(low.begin() + 3, {.token = 3, .repetition = 0.1f});
    EXPECT_EQ(greedy(low).token[0], 3);

    double sum = 0;
    for (double l : logits.values) sum += std::exp(l);
    SamplingParams params = with(0, 0, 1);
    params.top_logprobs = 2;
    const std::vector<LogitEdit> bias = {{.token = 3, .bias = 100}};
    const Drawn drawn = sample(ops, logits, {edited_by(params, bias)});
    EXPECT_EQ(drawn.token[0], 3);
    EXPECT_NEAR(drawn.logprob[0], -1 - std::log(sum), 2e-6);
    EXPECT_EQ(drawn.top[0].token, 1);
    EXPECT_NEAR(drawn.top[0].logprob, 4 - std::log(sum), 2e-6);
    EXPECT_EQ(drawn.top[1].token, 4);
  });
}

/// Edits of some tokens are the same as logits that are edited before.
TEST(SampleEdits, EditsAreEditedLogits) {
  for_each_ops([](Ops& ops) {
    std::mt19937 generator(31);
    for (const int64_t vocabulary : {1, 2, 33, 64, 1000, 5003}) {
      const int64_t rows = 24;
      const Array logits = rounded(random_array(rows, vocabulary, 8, 3), DType::float32);
      Array before = logits;
      std::vector<std::vector<LogitEdit>> edits;
      std::vector<SamplingParams> params, plain;
      for (int64_t i = 0; i < rows; ++i) {
        edits.push_back(random_edits(vocabulary, i % 3 == 0 ? 2 : 20, generator));
        if (!edits.back().empty()) edits.back()[0].bias = 0.5f;  // so that one token is left
        SamplingParams p =
            with(i % 4 == 0 ? 0.0f : 0.7f, i % 3 == 1 ? 5 : 0, i % 5 == 0 ? 0.8f : 1.0f, static_cast<uint64_t>(i), 3);
        p.min_p = i % 6 == 1 ? 0.05f : 0.0f;
        plain.push_back(p);
        if (i % 8 == 7) continue;
        for (const LogitEdit& edit : edits.back()) before(i, edit.token) = edited(logits(i, edit.token), edit);
      }
      for (size_t i = 0; i < plain.size(); ++i) params.push_back(i % 8 == 7 ? plain[i] : edited_by(plain[i], edits[i]));
      Buffer l(ops, ops.master_dtype(), rows, vocabulary, "logits", apart(vocabulary, 1));
      l.set(logits);
      std::vector<int32_t> token(params.size());
      ops.sample(l.tensor(), params.data(), token.data(), nullptr, nullptr);
      EXPECT_EQ(l.get().values, logits.values) << "the logits are what they were";
      const Drawn expected = sample(ops, rounded(before, DType::float32), plain);
      int different = 0;
      for (size_t i = 0; i < token.size(); ++i) different += token[i] != expected.token[i] ? 1 : 0;
      EXPECT_LE(different, 1) << vocabulary << " tokens";  // where a rounding moves a border beyond the draw
    }
  });
}

TEST(SampleEdits, EditsOfNonFiniteLogitsAreOutOfTheDraw) {
  for_each_ops([](Ops& ops) {
    const std::vector<LogitEdit> edits = {{.token = 0, .bias = 5},
                                          {.token = 1, .bias = 1},
                                          {.token = 2, .penalty = 3},
                                          {.token = 3, .bias = 2, .repetition = 0.5f},
                                          {.token = 4, .bias = -std::numeric_limits<float>::infinity()}};
    for (float temperature : {0.0f, 1.0f})
      EXPECT_EQ(
          sample(ops, row({kNan, 2, kInfinity, -kInfinity, 9}), {edited_by(with(temperature, 0, 1), edits)}).token[0],
          1);
  });
}

TEST(SampleEdits, NothingLeftToDrawIsAnErrorAndLeavesTheLogits) {
  for_each_ops([](Ops& ops) {
    const std::vector<LogitEdit> none = {{.token = 0, .bias = -std::numeric_limits<float>::infinity()},
                                         {.token = 1, .bias = -std::numeric_limits<float>::infinity()}};
    Buffer logits(ops, ops.master_dtype(), 1, 2, "logits");
    logits.set(row({1, 2}));
    const SamplingParams params = edited_by(with(1, 0, 1), none);
    int32_t token = -7;
    try {
      ops.sample(logits.tensor(), &params, &token, nullptr, nullptr);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::NON_FINITE);
    }
    EXPECT_EQ(logits.get().values, std::vector<double>({1, 2}));
  });
}

}  // namespace
}  // namespace mor::test
