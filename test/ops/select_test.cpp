// Tests of select: known selections, and every device against the reference on random scores with ties and NaN.
#include "ops/checks/select.h"

#include <limits>
#include <numeric>

#include "test/ops/bytes.h"
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

struct Selection {
  std::vector<int32_t> index, start;
  std::vector<uint8_t> selected;
  bool operator==(const Selection&) const = default;
};

using Select = std::function<SelectedRows(int32_t* index, int32_t* start, uint8_t* selected)>;

/// Runs a selection into poisoned outputs; `room` is the number of entries of index.
Selection selection_of(Ops& ops, int64_t parents, int64_t room, int64_t sequences, const Select& select) {
  Integers index(ops, std::vector<int32_t>(static_cast<size_t>(room), -7));
  Integers start(ops, std::vector<int32_t>(static_cast<size_t>(sequences) + 1, -7));
  Bytes selected(ops, std::vector<uint8_t>(static_cast<size_t>(parents), 77));
  const SelectedRows rows = select(index.data(), start.data(), selected.data());
  Selection result{index.get(), start.get(), selected.get()};
  EXPECT_EQ(result.start.back(), rows.count);
  int32_t most = 0;
  for (size_t s = 1; s < result.start.size(); ++s) most = std::max(most, result.start[s] - result.start[s - 1]);
  EXPECT_EQ(rows.max_rows, most);
  result.index.resize(static_cast<size_t>(rows.count));
  return result;
}

Selection topk(Ops& ops, const Array& scores, const std::vector<int32_t>& starts, int32_t k) {
  Buffer s(ops, ops.master_dtype(), scores.rows, 1, "scores");
  Integers parent_start(ops, starts);
  s.set(scores);
  const auto sequences = static_cast<int32_t>(starts.size()) - 1, total = sequences * k;
  return selection_of(ops, scores.rows, total, sequences, [&](int32_t* index, int32_t* start, uint8_t* selected) {
    ops.select_topk(s.tensor(), parent_start.data(), sequences, k, index, start, selected);
    return SelectedRows{total, sequences > 0 ? k : 0};
  });
}

Selection above(Ops& ops, const Array& scores, const std::vector<int32_t>& starts, double threshold) {
  Buffer s(ops, ops.master_dtype(), scores.rows, 1, "scores");
  Integers parent_start(ops, starts);
  s.set(scores);
  const int64_t sequences = static_cast<int64_t>(starts.size()) - 1;
  return selection_of(ops, scores.rows, scores.rows, sequences, [&](int32_t* index, int32_t* start, uint8_t* selected) {
    return ops.select_threshold(s.tensor(), parent_start.data(), static_cast<int32_t>(sequences), threshold, index,
                                start, selected);
  });
}

Selection between(Ops& ops, const std::vector<int32_t>& values, const std::vector<int32_t>& starts, int32_t low,
                  int32_t high) {
  Integers v(ops, values), parent_start(ops, starts);
  const auto rows = static_cast<int64_t>(values.size()), sequences = static_cast<int64_t>(starts.size()) - 1;
  return selection_of(ops, rows, rows, sequences, [&](int32_t* index, int32_t* start, uint8_t* selected) {
    return ops.select_between(v.data(), static_cast<int32_t>(rows), parent_start.data(),
                              static_cast<int32_t>(sequences), low, high, index, start, selected);
  });
}

Array column(const std::vector<double>& values) {
  Array a(static_cast<int64_t>(values.size()), 1);
  a.values = values;
  return a;
}

/// Runs `body` on the reference and on every device.
void for_each_ops(const std::function<void(Ops& ops)>& body) {
  RefOps<double> reference;
  body(reference);
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    body(*subject.make());
  }
}

const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

TEST(Select, TopkPerSequenceInRowOrder) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(topk(ops, column({1, 5, 3, 9, 8, 7}), {0, 3, 6}, 2),
              (Selection{{1, 2, 3, 4}, {0, 2, 4}, {0, 1, 1, 1, 1, 0}}));
    EXPECT_EQ(topk(ops, Array(0, 1), {0}, 1), (Selection{{}, {0}, {}}));
  });
}

TEST(Select, TiesGoToTheEarlierRow) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(topk(ops, column({2, 1, 2, 2, 3}), {0, 5}, 3), (Selection{{0, 2, 4}, {0, 3}, {1, 0, 1, 0, 1}}));
    EXPECT_EQ(topk(ops, column({0.0, -0.0, 0.0}), {0, 3}, 2), (Selection{{0, 1}, {0, 2}, {1, 1, 0}}));
  });
}

TEST(Select, NanIsTheSmallestScore) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(topk(ops, column({kNan, -5, kNan, 1}), {0, 4}, 2), (Selection{{1, 3}, {0, 2}, {0, 1, 0, 1}}));
    EXPECT_EQ(topk(ops, column({kNan, kNan, kNan}), {0, 3}, 2), (Selection{{0, 1}, {0, 2}, {1, 1, 0}}));
    EXPECT_EQ(topk(ops, column({-kInfinity, kNan, kInfinity}), {0, 3}, 2), (Selection{{0, 2}, {0, 2}, {1, 0, 1}}));
    EXPECT_EQ(above(ops, column({kNan, 1, kInfinity}), {0, 3}, 0), (Selection{{1, 2}, {0, 2}, {0, 1, 1}}));
  });
}

TEST(Select, ThresholdIsInclusiveAndMayLeaveASequenceEmpty) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(above(ops, column({0.5, 0.25, -1, 0.5}), {0, 2, 3, 4}, 0.5),
              (Selection{{0, 3}, {0, 1, 1, 2}, {1, 0, 0, 1}}));
    EXPECT_EQ(above(ops, Array(0, 1), {0}, 0), (Selection{{}, {0}, {}}));
  });
}

TEST(Select, BetweenIsInclusive) {
  for_each_ops([](Ops& ops) {
    EXPECT_EQ(between(ops, {1, 2, 3, 4, 2}, {0, 3, 5}, 2, 3), (Selection{{1, 2, 4}, {0, 2, 3}, {0, 1, 1, 0, 1}}));
  });
}

TEST(Select, RandomScoresMatchReference) {
  std::mt19937 generator(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<int32_t> starts = {0};
    int32_t fewest = INT32_MAX;
    const int sequences = 1 + static_cast<int>(generator() % 4);
    for (int s = 0; s < sequences; ++s) {
      const auto rows = static_cast<int32_t>(1 + generator() % (round < 190 ? 40 : 3000));
      starts.push_back(starts.back() + rows);
      fewest = std::min(fewest, rows);
    }
    const auto k = static_cast<int32_t>(1 + generator() % static_cast<uint32_t>(fewest));
    Array scores = rounded(random_array(starts.back(), 1, generator()), DType::float32);
    if (round % 2 == 0)
      for (double& s : scores.values) s = std::round(s * 2) / 2;  // many ties
    RefOps<double> reference;
    for (const Subject& subject : subjects()) {
      const std::unique_ptr<Ops> ops = subject.make();
      ASSERT_EQ(topk(*ops, scores, starts, k), topk(reference, scores, starts, k)) << subject.name;
      ASSERT_EQ(above(*ops, scores, starts, 0.5), above(reference, scores, starts, 0.5)) << subject.name;
    }
  }
}

TEST(Select, GatherAndVisible) {
  for_each_ops([](Ops& ops) {
    Integers from(ops, {10, 11, 12, 13}), index(ops, {3, 0, 0}), to(ops, {-7, -7, -7});
    ops.gather_indices(from.data(), index.data(), 3, to.data());
    EXPECT_EQ(to.get(), (std::vector<int32_t>{13, 10, 10}));
    Integers start(ops, {0, 2, 2, 5}), visible(ops, {-7, -7, -7, -7, -7});
    ops.visible_causal(start.data(), 3, 5, visible.data());
    EXPECT_EQ(visible.get(), (std::vector<int32_t>{1, 2, 1, 2, 3}));
    ops.gather_indices(from.data(), index.data(), 0, to.data());
    ops.visible_causal(start.data(), 0, 0, visible.data());
  });
}

TEST(Select, EqualRows) {
  for_each_ops([](Ops& ops) {
    Integers start(ops, {-7, -7, -7}), position(ops, std::vector<int32_t>(6, -7)), visible = {ops, position.get()};
    ops.equal_rows(2, 3, start.data(), position.data(), visible.data());
    EXPECT_EQ(start.get(), (std::vector<int32_t>{0, 3, 6}));
    EXPECT_EQ(position.get(), (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
    EXPECT_EQ(visible.get(), (std::vector<int32_t>{1, 2, 3, 1, 2, 3}));
    ops.equal_rows(2, 0, start.data(), nullptr, nullptr);
    EXPECT_EQ(start.get(), (std::vector<int32_t>{0, 0, 0}));
    Integers none(ops, {-7});
    ops.equal_rows(0, 3, none.data(), nullptr, nullptr);
    EXPECT_EQ(none.get(), (std::vector<int32_t>{0}));
  });
}

TEST(Select, SumOfIntegersIsWide) {
  std::mt19937 generator(2);
  for (int32_t n : {0, 1, 31, 1000, 5000}) {
    std::vector<int32_t> values(static_cast<size_t>(n));
    for (int32_t& value : values) value = static_cast<int32_t>(generator() % INT32_MAX);
    const int64_t sum = std::accumulate(values.begin(), values.end(), int64_t{0});
    for_each_ops([&](Ops& ops) {
      Integers device(ops, values), result(ops, {-7, -7});
      ops.sum_integers(device.data(), n, reinterpret_cast<int64_t*>(result.data()));
      int64_t value = 0;
      ops.copy_to_host(&value, result.data(), sizeof value);
      EXPECT_EQ(value, sum);
    });
  }
}

TEST(Select, KOutsideTheSequenceIsAnError) {
  expect_invalid(
      [](Ops& ops) {
        topk(ops, Array(3, 1), {0, 3}, 4);
      },
      "select_topk: k is 4, but it must be from 1 to the 3 rows of sequence 0");
  expect_invalid(
      [](Ops& ops) {
        topk(ops, Array(5, 1), {0, 3, 5}, 3);
      },
      "select_topk: k is 3, but it must be from 1 to the 2 rows of sequence 1");
}

}  // namespace
}  // namespace mor::test
