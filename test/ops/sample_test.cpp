// Tests of sample: greedy choice, filters and errors on known cases; draws by a chi-square test and against the
// reference.
#include "ops/checks/sample.h"

#include "test/error_message.h"
#include "test/ops/perturb.h"
#include "test/ops/sample_rows.h"

namespace mor::test {
namespace {

TEST(Sample, GreedyTakesTheLargestAndOfEqualOnesTheFirst) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(sample(ops, row({1, 3, 2}), {with(0, 0, 1)}).token[0], 1);
    EXPECT_EQ(sample(ops, row({1, 3, 3, 3}), {with(0, 0, 1)}).token[0], 1);
    EXPECT_EQ(sample(ops, row({-5}), {with(0, 5, 0.1f)}).token[0], 0);
    for (int64_t where : {0, 15, 16, 1023, 1024, 4998, 4999}) {
      Array logits = random_array(1, 5000, 1);
      logits(0, where) = 10;
      logits(0, 4999) = 10;
      EXPECT_EQ(sample(ops, logits, {with(0, 0, 1)}).token[0], where);
    }
  });
}

TEST(Sample, LogprobIsOfTheWholeDistributionAtTemperatureOne) {
  for_each_ops([](Ops& ops) {
    const Array logits = random_array(1, 1000, 2, 3);
    double sum = 0;
    for (double l : logits.values) sum += std::exp(l);
    for (const SamplingParams& p : {with(0, 0, 1), with(0.5f, 3, 1), with(2, 0, 0.5f), with(1, 0, 1)}) {
      const Drawn drawn = sample(ops, logits, {p});
      EXPECT_NEAR(drawn.logprob[0], logits(0, drawn.token[0]) - std::log(sum), 2e-6);
    }
  });
}

/// Compares the list of row i with a sort of all its logits; entries that were not asked for must be untouched.
void expect_top(const Drawn& drawn, const Array& logits, int64_t i, int32_t listed) {
  SCOPED_TRACE(concat("row ", i, " of ", logits.columns, " logits, ", listed, " listed"));
  std::vector<int32_t> ids;
  double sum = 0;
  for (int64_t j = 0; j < logits.columns; ++j) {
    if (!std::isfinite(logits(i, j))) continue;
    ids.push_back(static_cast<int32_t>(j));
    sum += std::exp(logits(i, j));
  }
  std::sort(ids.begin(), ids.end(),
            [&](int32_t a, int32_t b) { return logits(i, a) != logits(i, b) ? logits(i, a) > logits(i, b) : a < b; });
  const TokenLogprob* top = &drawn.top[static_cast<size_t>(i * kMostTopLogprobs)];
  for (int32_t t = 0; t < kMostTopLogprobs; ++t) {
    const bool exists = t < static_cast<int32_t>(ids.size());
    EXPECT_EQ(top[t].token, t >= listed ? kPoison.token : exists ? ids[static_cast<size_t>(t)] : -1) << "place " << t;
    if (t >= listed || !exists) {
      EXPECT_EQ(top[t].logprob, t >= listed ? kPoison.logprob : 0) << "place " << t;
      continue;
    }
    EXPECT_NEAR(top[t].logprob, logits(i, top[t].token) - std::log(sum), 4e-6) << "place " << t;
    if (top[t].token == drawn.token[static_cast<size_t>(i)]) {
      EXPECT_EQ(top[t].logprob, drawn.logprob[static_cast<size_t>(i)]) << "one token, one log-probability";
    }
  }
}

TEST(Sample, ListsTheMostLikelyTokensWhateverTheDraw) {
  for_each_ops([](Ops& ops) {
    for (const int64_t vocabulary : {1, 2, 19, 20, 21, 63, 64, 65, 1000, 4099})
      for (const bool ties : {false, true}) {
        const int64_t rows = 6;
        Array logits = rounded(random_array(rows, vocabulary, 3, 2), DType::float32);
        if (ties)
          for (double& l : logits.values) l = std::round(l);
        const std::vector<int32_t> listed = {0, 1, 20, 5, 19, 0};
        std::vector<SamplingParams> params = {with(0, 0, 1), with(0, 0, 1),    with(1, 1, 1),
                                              with(1, 3, 1), with(2, 0, 0.3f), with(1, 0, 1)};
        for (size_t i = 0; i < params.size(); ++i) params[i].top_logprobs = listed[i];
        const Drawn drawn = sample(ops, logits, params);
        for (int64_t i = 0; i < rows; ++i) expect_top(drawn, logits, i, listed[static_cast<size_t>(i)]);
      }
  });
}

TEST(Sample, ListsRisingFallingAndEqualLogits) {
  for_each_ops([](Ops& ops) {
    const int64_t vocabulary = 700;
    Array logits(4, vocabulary);
    for (int64_t j = 0; j < vocabulary; ++j) {
      logits(0, j) = static_cast<double>(j) / 64;
      logits(1, j) = static_cast<double>(-j) / 64;
      logits(2, j) = -3;
      logits(3, j) = j % 2 == 0 ? 0.0 : -0.0;
    }
    std::vector<SamplingParams> params(4, with(0, 0, 1));
    for (SamplingParams& p : params) p.top_logprobs = kMostTopLogprobs;
    const Drawn drawn = sample(ops, logits, params);
    for (int64_t i = 0; i < 4; ++i) expect_top(drawn, logits, i, kMostTopLogprobs);
  });
}

TEST(Sample, NonFiniteLogitsAreNotListed) {
  for_each_ops([](Ops& ops) {
    Array logits = rounded(random_array(2, 90, 4, 2), DType::float32);
    for (int64_t j = 0; j < 90; ++j)
      if (j % 9 != 5) logits(0, j) = std::vector<double>{kNan, kInfinity, -kInfinity}[static_cast<size_t>(j % 3)];
    for (const int64_t j : {0, 64, 89}) logits(1, j) = kInfinity;
    std::vector<SamplingParams> params(2, with(1, 0, 1));
    for (SamplingParams& p : params) p.top_logprobs = 15;
    const Drawn drawn = sample(ops, logits, params);
    for (int64_t i = 0; i < 2; ++i) expect_top(drawn, logits, i, 15);
  });
}

TEST(Sample, NonFiniteLogitsAreOutOfTheDraw) {
  for_each_ops([](Ops& ops) {
    for (float temperature : {0.0f, 1.0f}) {
      const Drawn drawn = sample(ops, row({kNan, kInfinity, 2, -kInfinity, kNan}), {with(temperature, 0, 1)});
      EXPECT_EQ(drawn.token[0], 2);
      EXPECT_EQ(drawn.logprob[0], 0);
      for (int32_t token : draw_many(ops, {kNan, 1, kInfinity, 1}, with(1, 3, 0.99f), 50))
        EXPECT_TRUE(token == 1 || token == 3);
    }
  });
}

TEST(Sample, AGivenTokenIsNotDrawn) {
  for_each_ops([](Ops& ops) {
    const int64_t rows = 7, vocabulary = 300;
    Array logits = rounded(random_array(rows, vocabulary, 12, 3), DType::float32);
    logits(4, 9) = logits(5, 10) = -kInfinity;
    const std::vector<LogitEdit> bias = {{.token = 8, .bias = 100}};
    std::vector<SamplingParams> params(static_cast<size_t>(rows), edited_by(with(1, 3, 0.5f), bias));
    for (SamplingParams& p : params) p.top_logprobs = 4;
    for (const size_t i : {0, 1, 2, 4, 5}) params[i].given = i < 3 ? static_cast<int32_t>(i * 149) : 9;
    const Drawn drawn = sample(ops, logits, params);
    EXPECT_EQ(drawn.token, std::vector<int32_t>({0, 149, 298, 8, 9, 9, 8}));
    for (int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < vocabulary; ++j)
        if (std::isfinite(logits(i, j))) sum += std::exp(logits(i, j));
      const float logprob = drawn.logprob[static_cast<size_t>(i)];
      if (i == 4) {
        EXPECT_EQ(logprob, -kInfinity);
      } else {
        EXPECT_NEAR(logprob, logits(i, drawn.token[static_cast<size_t>(i)]) - std::log(sum), 4e-6);
      }
      expect_top(drawn, logits, i, 4);
    }
  });
}

/// A softmax without those logits would pass for the model's.
TEST(Sample, AGivenTokenIsNotScoredBesideLogitsThatAreNaNOrInfinity) {
  for_each_ops([](Ops& ops) {
    SamplingParams p = with(0, 0, 1);
    p.given = 1;
    for (const int64_t place : {0, 1, 63, 64, 130})
      for (const double wrong : {kNan, kInfinity}) {
        Array logits = rounded(random_array(2, 131, 5, 3), DType::float32);
        logits(1, place) = wrong;
        EXPECT_EQ(message_of(
                      [&] {
                        sample(ops, logits, {p, p});
                      },
                      ErrorCode::NON_FINITE),
                  "sample: the logits of row 1 are not finite; the model's weights or activations have overflowed or "
                  "are NaN");
      }
    EXPECT_NE(message_of([&] { sample(ops, row({-kInfinity, -kInfinity}), {p}); }, ErrorCode::NON_FINITE), "no error");
  });
}

TEST(Sample, NothingFiniteIsAnError) {
  for_each_ops([](Ops& ops) {
    Array logits(2, 40, kNan);
    logits(0, 5) = 1;
    logits(1, 7) = -kInfinity;
    try {
      sample(ops, logits, {with(1, 0, 1), with(1, 0, 1)});
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::NON_FINITE);
      EXPECT_STREQ(error.what(),
                   "sample: the logits of row 1 are not finite; the model's weights or activations have overflowed or "
                   "are NaN");
    }
  });
}

TEST(Sample, FiltersKeepExactlyTheirTokens) {
  const std::vector<double> logits = {std::log(0.1), std::log(0.4), std::log(0.2), std::log(0.2), std::log(0.1)};
  const auto seen = [&](Ops& ops, int32_t top_k, float top_p) {
    std::vector<int32_t> tokens = draw_many(ops, logits, with(1, top_k, top_p), 500);
    std::sort(tokens.begin(), tokens.end());
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    return tokens;
  };
  using Tokens = std::vector<int32_t>;
  for_each_ops([&](Ops& ops) {
    EXPECT_EQ(seen(ops, 1, 1), Tokens({1}));
    EXPECT_EQ(seen(ops, 2, 1), Tokens({1, 2}));  // two tokens have 0.2; the smaller id stays
    EXPECT_EQ(seen(ops, 4, 1), Tokens({0, 1, 2, 3}));
    EXPECT_EQ(seen(ops, 0, 1), Tokens({0, 1, 2, 3, 4}));
    EXPECT_EQ(seen(ops, 9, 1), Tokens({0, 1, 2, 3, 4}));
    EXPECT_EQ(seen(ops, 0, 0.3f), Tokens({1}));
    EXPECT_EQ(seen(ops, 0, 0.5f), Tokens({1, 2}));
    EXPECT_EQ(seen(ops, 0, 0.85f), Tokens({0, 1, 2, 3}));
    EXPECT_EQ(seen(ops, 3, 0.7f), Tokens({1, 2}));  // top_k leaves 0.8, of which 0.6 is three quarters
    EXPECT_EQ(seen(ops, 3, 0.8f), Tokens({1, 2, 3}));
  });
}

/// Compares counts with expected probabilities: chi-square with k - 1 degrees of freedom has mean k - 1 and variance
/// 2 (k - 1). The limit is five standard deviations above the mean; seeds are fixed.
void expect_distribution(Ops& ops, const std::vector<double>& logits, const SamplingParams& params,
                         const std::vector<double>& probabilities) {
  const int draws = 20000;
  std::vector<int> counts(logits.size());
  for (int32_t token : draw_many(ops, logits, params, draws)) ++counts[static_cast<size_t>(token)];
  double chi_square = 0, degrees = -1;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = probabilities[i] * draws;
    if (expected == 0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    degrees += 1;
  }
  EXPECT_LT(chi_square, degrees + 5 * std::sqrt(2 * degrees));
}

TEST(Sample, MinPKeepsTokensOfAtLeastThisShareOfTheBest) {
  const std::vector<double> p = {0.05, 0.4, 0.2, 0.2, 0.15};
  std::vector<double> logits;
  for (double x : p) logits.push_back(std::log(x) - 2);
  const auto filtered = [](float min_p, int32_t top_k, float top_p, float temperature, uint64_t seed) {
    SamplingParams params = with(temperature, top_k, top_p, seed);
    params.min_p = min_p;
    return params;
  };
  for_each_ops([&](Ops& ops) {
    expect_distribution(ops, logits, filtered(0.3f, 0, 1, 1, 21), {0, 0.4 / 0.95, 0.2 / 0.95, 0.2 / 0.95, 0.15 / 0.95});
    expect_distribution(ops, logits, filtered(0.45f, 0, 1, 1, 22), {0, 0.5, 0.25, 0.25, 0});
    expect_distribution(ops, logits, filtered(0.45f, 2, 1, 1, 23), {0, 2 / 3.0, 1 / 3.0, 0, 0});
    expect_distribution(ops, logits, filtered(0.45f, 0, 0.7f, 1, 25), {0, 2 / 3.0, 1 / 3.0, 0, 0});
    // Of the 0.8 that min_p leaves, 0.4 are one half; at temperature 2 the share of 0.2 in 0.4 is the square root of
    // one half, 0.71.
    for (const SamplingParams& params :
         {filtered(0.45f, 0, 0.49f, 1, 24), filtered(0.72f, 0, 1, 2, 26), filtered(1, 0, 1, 1, 27)})
      for (int32_t token : draw_many(ops, logits, params, 500)) EXPECT_EQ(token, 1);
    for (int32_t token : draw_many(ops, {3, 1, 3}, filtered(1, 0, 1, 1, 28), 50)) EXPECT_TRUE(token == 0 || token == 2);
  });
}

TEST(Sample, ExtremeTemperatures) {
  for_each_ops([](Ops& ops) {
    const std::vector<double> logits = {1, 1.001, -3, 1};
    for (float tiny : {1e-20f, std::numeric_limits<float>::denorm_min()})
      for (float top_p : {1.0f, 0.9f})
        for (int32_t token : draw_many(ops, logits, with(tiny, 0, top_p), 20)) EXPECT_EQ(token, 1);
    for (int32_t token : draw_many(ops, logits, with(std::numeric_limits<float>::max(), 1, 1), 20)) EXPECT_EQ(token, 1);
    std::vector<int32_t> counts(4);
    for (int32_t token : draw_many(ops, logits, with(std::numeric_limits<float>::max(), 0, 1), 400))
      ++counts[static_cast<size_t>(token)];
    for (int32_t count : counts) EXPECT_GT(count, 60);
  });
}

TEST(Sample, NeighboursDoNotMatter) {
  for_each_ops([](Ops& ops) {
    const int64_t rows = 33, vocabulary = 2000;
    const Array logits = random_array(rows, vocabulary, 5, 2);
    std::vector<SamplingParams> params;
    for (int64_t i = 0; i < rows; ++i)
      params.push_back(with(i % 4 == 0 ? 0.0f : 0.8f, i % 3 == 0 ? 40 : 0, i % 2 == 0 ? 0.9f : 1.0f,
                            static_cast<uint64_t>(i / 7), static_cast<uint64_t>(i)));
    std::mt19937 generator(6);
    std::vector<std::vector<LogitEdit>> edits;
    for (int64_t i = 0; i < rows; ++i) {
      SamplingParams& p = params[static_cast<size_t>(i)];
      p.top_logprobs = static_cast<int32_t>(i * 5 % 21);
      edits.push_back(random_edits(vocabulary, 10 + static_cast<int32_t>(i), generator));
      if (i % 3 != 2) p = edited_by(p, edits.back());
    }
    const Drawn together = sample(ops, logits, params);
    for (int64_t i = 0; i < rows; ++i) {
      Array alone(1, vocabulary);
      for (int64_t j = 0; j < vocabulary; ++j) alone(0, j) = logits(i, j);
      const Drawn drawn = sample(ops, alone, {params[static_cast<size_t>(i)]});
      EXPECT_EQ(drawn.token[0], together.token[static_cast<size_t>(i)]);
      EXPECT_EQ(drawn.logprob[0], together.logprob[static_cast<size_t>(i)]);
      for (int32_t t = 0; t < kMostTopLogprobs; ++t) {
        const TokenLogprob& listed = together.top[static_cast<size_t>(i * kMostTopLogprobs + t)];
        EXPECT_EQ(drawn.top[static_cast<size_t>(t)].token, listed.token);
        EXPECT_EQ(drawn.top[static_cast<size_t>(t)].logprob, listed.logprob);
      }
    }
  });
}

TEST(Sample, DrawsFollowTheDistribution) {
  const std::vector<double> p = {0.05, 0.3, 0.15, 0.2, 0.1, 0.12, 0.08};
  std::vector<double> logits;
  for (double x : p) logits.push_back(std::log(x) + 3);
  for_each_ops([&](Ops& ops) {
    expect_distribution(ops, logits, with(1, 0, 1, 11), p);
    expect_distribution(ops, logits, with(1, 3, 1, 12), {0, 0.3 / 0.65, 0.15 / 0.65, 0.2 / 0.65, 0, 0, 0});
    expect_distribution(ops, logits, with(1, 0, 0.6f, 13), {0, 0.3 / 0.65, 0.15 / 0.65, 0.2 / 0.65, 0, 0, 0});
    std::vector<double> warm = p;
    double sum = 0;
    for (double& x : warm) sum += x = std::sqrt(x);
    for (double& x : warm) x /= sum;
    expect_distribution(ops, logits, with(2, 0, 1, 14), warm);
  });
}

/// Where rounding moves the border between two tokens to the other side of the draw, a device may take the neighbour:
/// with a thousand tokens and borders exact to 1e-6, in about one draw of a thousand.
TEST(Sample, DrawsAreTheReferences) {
  RefOps<double> reference;
  std::mt19937 generator(9);
  Array logits = rounded(random_array(600, 1000, 6, 2), DType::float32);
  std::vector<SamplingParams> params;
  for (int64_t i = 0; i < logits.rows; ++i) {
    const int32_t top_k = i % 3 == 0 ? 1 + static_cast<int32_t>(generator() % 1200) : 0;
    const float top_p = i % 2 == 0 ? 1.0f : 0.01f + 0.98f * static_cast<float>(generator() % 1000) / 1000;
    params.push_back(with(0.1f + static_cast<float>(generator() % 30) / 10, top_k, top_p, generator(), generator()));
    if (i % 4 == 1) params.back().min_p = static_cast<float>(generator() % 1000) / 2000;
    if (i % 5 == 0)
      for (int64_t j = 0; j < 1000; ++j) logits(i, j) = std::round(logits(i, j));  // many tokens have equal logits
  }
  const Drawn expected = sample(reference, logits, params);
  for (const Subject& subject : subjects()) {
    const Drawn actual = sample(*subject.make(), logits, params);
    int different = 0;
    for (size_t i = 0; i < params.size(); ++i) different += actual.token[i] != expected.token[i] ? 1 : 0;
    EXPECT_LE(different, 3) << subject.name;
  }
}

/// Nearly all tokens of such a row are among those of which the filters keep a part.
TEST(Sample, DrawsFromFlatDistributionsAreTheReferences) {
  RefOps<double> reference;
  const Array flat = random_array(5, 20000, 31, 0.3);
  Array logits = rounded(flat, DType::float32);
  for (int64_t j = 0; j < logits.columns; ++j) logits(4, j) = 1;
  const std::vector<SamplingParams> params = {with(1, 0, 0.95f, 1), with(0.7f, 0, 0.5f, 2), with(1, 9000, 1, 3),
                                              with(1, 9000, 0.6f, 4), with(1, 12000, 0.5f, 5)};
  const Drawn expected = sample(reference, logits, params);
  for (const Subject& subject : subjects())
    EXPECT_EQ(sample(*subject.make(), logits, params).token, expected.token) << subject.name;
}

TEST(Sample, WrongParametersAreNamed) {
  const auto call = [](const SamplingParams& params) {
    return [params](Ops& ops) { sample(ops, row({1, 2}), {params}); };
  };
  expect_invalid(call(with(-1, 0, 1)), "sample: temperature of row 0 is -1, but it must be a number >= 0 (0: greedy)");
  expect_invalid(call(with(1, -2, 1)), "sample: top_k of row 0 is -2, but it must be >= 0 (0: off)");
  expect_invalid(call(with(1, 0, 0)), "sample: top_p of row 0 is 0, but it must be above 0 and at most 1 (1: off)");
  expect_invalid(call(with(1, 0, std::numeric_limits<float>::quiet_NaN())),
                 "sample: top_p of row 0 is nan, but it must be above 0 and at most 1 (1: off)");
  for (const float min_p : {-0.5f, 1.5f}) {
    SamplingParams params = with(0, 0, 1);
    params.min_p = min_p;
    expect_invalid(call(params),
                   concat("sample: min_p of row 0 is ", min_p, ", but it must be from 0 (off) to 1").c_str());
  }
  const auto edit = [&](const std::vector<LogitEdit>& edits, const char* message) {
    expect_invalid(call(edited_by(with(0, 0, 1), edits)), message);
  };
  edit({{.token = 2}}, "sample: edit 0 of row 0 is of token 2, but it must be from 0 (above the edit before) to 1");
  edit({{.token = -1}}, "sample: edit 0 of row 0 is of token -1, but it must be from 0 (above the edit before) to 1");
  edit({{.token = 1}, {.token = 1}},
       "sample: edit 1 of row 0 is of token 1, but it must be from 2 (above the edit before) to 1");
  edit({{.token = 1, .repetition = 0}}, "sample: repetition of edit 0 of row 0 is 0, but it must be above 0 (1: off)");
  for (const int32_t given : {-2, 2}) {
    SamplingParams params = with(0, 0, 1);
    params.given = given;
    expect_invalid(
        call(params),
        concat("sample: the given token of row 0 is ", given, ", but it must be from -1 (none) to 1").c_str());
  }
  for (const int32_t listed : {-1, 21}) {
    SamplingParams params = with(0, 0, 1);
    params.top_logprobs = listed;
    expect_invalid(call(params),
                   concat("sample: top_logprobs of row 0 is ", listed, ", but it must be from 0 (none) to 20").c_str());
  }
}

TEST(Sample, NoRowsNoLogprobAndNoListAreLegal) {
  for_each_ops([](Ops& ops) {
    sample(ops, Array(0, 5), {});
    Buffer logits(ops, ops.master_dtype(), 1, 3, "logits");
    logits.set(row({1, 2, 3}));
    SamplingParams params = with(0, 0, 1);
    params.top_logprobs = 2;
    int32_t token = -7;
    ops.sample(logits.tensor(), &params, &token, nullptr, nullptr);
    EXPECT_EQ(token, 2);
    TokenLogprob top[kMostTopLogprobs];
    ops.sample(logits.tensor(), &params, &token, nullptr, top);
    EXPECT_EQ(top[0].token, 2);
    EXPECT_EQ(top[1].token, 1);
    EXPECT_NEAR(top[0].logprob - top[1].logprob, 1, 1e-6);
  });
}

}  // namespace
}  // namespace mor::test
