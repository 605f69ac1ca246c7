// Tests of LogitEdits: its list after every token, against counts over prompt and output.
#include "engine/logit_edits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

namespace mor::test {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// The edits by their definition, without those that change nothing.
std::map<int32_t, LogitEdit> expected(const Request& r, const std::vector<int32_t>& output) {
  std::map<int32_t, LogitEdit> edits;
  for (int32_t token = 0; token < 50; ++token) {
    LogitEdit edit{.token = token};
    for (const TokenBias& bias : r.logit_bias) edit.bias += bias.token == token ? bias.bias : 0;
    const auto count = static_cast<float>(std::count(output.begin(), output.end(), token));
    if (count > 0) edit.penalty = r.presence_penalty + count * r.frequency_penalty;
    if (count > 0 || std::count(r.prompt.begin(), r.prompt.end(), token) > 0) edit.repetition = r.repetition_penalty;
    if (static_cast<int32_t>(output.size()) < r.min_tokens && std::count(r.stop.begin(), r.stop.end(), token) > 0)
      edit.bias = kNever;
    if (edit.bias != 0 || edit.repetition != 1 || edit.penalty != 0) edits[token] = edit;
  }
  return edits;
}

void expect_edits(const Request& request) {
  const std::vector<int32_t> generated = {7, 3, 3, 40, 7, 0, 3, 49, 12, 7};
  LogitEdits edits(request);
  std::vector<int32_t> output;
  for (size_t i = 0; i <= generated.size(); ++i) {
    SCOPED_TRACE(i);
    std::map<int32_t, LogitEdit> actual;
    int32_t before = -1;
    for (const LogitEdit& edit : edits.list()) {
      EXPECT_GT(edit.token, before);
      before = edit.token;
      if (edit.bias != 0 || edit.repetition != 1 || edit.penalty != 0) actual[edit.token] = edit;
    }
    const std::map<int32_t, LogitEdit> right = expected(request, output);
    ASSERT_EQ(actual.size(), right.size());
    for (const auto& [token, edit] : right) {
      ASSERT_EQ(actual.count(token), 1u) << token;
      EXPECT_EQ(actual[token].bias, edit.bias) << token;
      EXPECT_EQ(actual[token].repetition, edit.repetition) << token;
      EXPECT_FLOAT_EQ(actual[token].penalty, edit.penalty) << token;
    }
    if (i == generated.size()) break;
    edits.add(generated[i]);
    output.push_back(generated[i]);
  }
}

Request with_prompt() {
  Request request;
  request.prompt = {5, 3, 5, 49, 20};
  return request;
}

TEST(LogitEdits, OfARequestWithoutAnyAreEmpty) {
  Request request = with_prompt();
  request.stop = {3, 7};
  LogitEdits edits(request);
  for (int32_t token : {1, 3, 5}) edits.add(token);
  EXPECT_TRUE(edits.list().empty());
}

TEST(LogitEdits, CountTheOutputForPresenceAndFrequency) {
  Request request = with_prompt();
  request.presence_penalty = 0.5f;
  expect_edits(request);
  request.frequency_penalty = -0.25f;
  expect_edits(request);
  request.presence_penalty = 0;
  expect_edits(request);
}

TEST(LogitEdits, CountPromptAndOutputForRepetition) {
  Request request = with_prompt();
  request.repetition_penalty = 1.3f;
  expect_edits(request);
  request.frequency_penalty = 0.125f;
  expect_edits(request);
}

TEST(LogitEdits, BanStopTokensUntilTheLeastNumberOfTokens) {
  for (const int32_t least : {0, 1, 4, 100}) {
    Request request = with_prompt();
    request.stop = {3, 12, 3, 8};
    request.min_tokens = least;
    expect_edits(request);
    request.logit_bias = {{3, 2}, {41, -1}, {0, 5}, {41, 4}};
    expect_edits(request);
    request.presence_penalty = 1;
    request.repetition_penalty = 0.5f;
    expect_edits(request);
  }
}

}  // namespace
}  // namespace mor::test
