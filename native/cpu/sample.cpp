// sample on the CPU: a few vector passes over each row of logits, rows in parallel; only candidates are sorted.
#include "ops/checks/sample.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "cpu/cpu_ops.h"
#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();  // the logit of a token that cannot be drawn
constexpr int64_t kFilterBlock = 64;  // numbers that are skipped if their maximum is too small
constexpr int64_t kSumBlock = 1024;   // numbers summed in float; these sums are added in double
constexpr int64_t kSorted = 256;      // candidates that are sorted rather than divided once more

struct Candidate {
  float logit;
  int32_t id;
};
/// Falling order of logits; a tie goes to the smaller id.
bool operator<(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/// One row of numbers. A number that is not finite reads as kNone, and so does everything behind the last one.
struct Row {
  const float* data;
  int64_t count;

  float operator[](int64_t i) const { return std::isfinite(data[i]) ? data[i] : kNone; }
  Vec vector(int64_t i) const {
    const Vec x = own(i);
    return select(x - x == Vec{}, x, splat(kNone));
  }
  float most(int64_t begin, int64_t end) const {
    Vec most = splat(kNone);
    for (int64_t i = begin; i < end; i += kLanes) most = max(most, vector(i));
    return largest(most);
  }
  /// Whether one is NaN or infinity, so that the softmax of the row is not a number.
  bool has_no_softmax() const {
    Vec wrong = {};
    for (int64_t i = 0; i < count; i += kLanes) {
      const Vec x = own(i);
      wrong = select((x - x == Vec{}) | (x == splat(kNone)), wrong, splat(1));
    }
    return largest(wrong) > 0;
  }

 private:
  /// As they are.
  Vec own(int64_t i) const {
    if (i + kLanes <= count) return load(data + i);
    float lanes[kLanes];
    std::fill(lanes, lanes + kLanes, kNone);
    std::copy(data + i, data + count, lanes);
    return load(lanes);
  }
};

/// The first candidate in falling order; its logit is kNone if no logit is finite.
Candidate best_of(const Row& row) {
  Candidate best{kNone, -1};
  int64_t block = 0;
  for (int64_t begin = 0; begin < row.count; begin += kSumBlock) {
    const float most = row.most(begin, std::min(row.count, begin + kSumBlock));
    if (most > best.logit) {
      best.logit = most;
      block = begin;
    }
  }
  if (best.logit != kNone)
    best.id = static_cast<int32_t>(std::find(row.data + block, row.data + row.count, best.logit) - row.data);
  return best;
}

/// Calls body({number, i}) for every number that is at least bound(), which is finite and may rise between calls.
template <class Bound, class Body>
void for_each_from(const Row& row, const Bound& bound, const Body& body) {
  for (int64_t begin = 0; begin < row.count; begin += kFilterBlock) {
    const int64_t end = std::min(row.count, begin + kFilterBlock);
    if (row.most(begin, end) < bound()) continue;
    for (int64_t i = begin; i < end; ++i)
      if (row[i] >= bound()) body(Candidate{row[i], static_cast<int32_t>(i)});
  }
}

/// Some tokens of a row.
struct Part {
  double mass = 0;  ///< the sum of their weights
  int64_t count = 0;
};

/// Unnormalised probabilities of a row at one temperature, a float for each token, and zeros behind the last one.
class Weights {
 public:
  explicit Weights(int64_t count)
      : count_(count),
        blocks_(static_cast<size_t>((count + kSumBlock - 1) / kSumBlock)),
        data_(std::make_unique<float[]>(blocks_.size() * kSumBlock)) {}

  float operator[](int64_t i) const { return data_[static_cast<size_t>(i)]; }
  double total() const { return total_; }

  /// Sets the weights to exp((logit - most) / temperature), or to zero where that is below `least`. The inverse of a
  /// tiny temperature is kept finite, so that 0 times it is 0.
  void set(const Row& row, float most, float temperature, float least = 0) {
    const float inverse = std::min(1 / temperature, std::numeric_limits<float>::max());
    update(row, [&](Vec logit, Vec, VecI) {
      const Vec weight = exp((logit - most) * inverse);
      return select(weight >= splat(least), weight, Vec{});
    });
  }
  /// Sets the weight of everything after `last` in falling order to zero.
  void keep_until(const Row& row, Candidate last) {
    update(row, [&](Vec logit, Vec weight, VecI id) {
      const VecI kept = (logit > last.logit) | ((logit == last.logit) & (id <= last.id));
      return select(kept, weight, Vec{});
    });
  }

  /// The tokens whose weights are at least `bound`, which is above 0.
  Part from(float bound) const {
    Part part;
    for (size_t block = 0; block < blocks_.size(); ++block) {
      Vec sums = {}, counts = {};
      const float* begin = data_.get() + block * kSumBlock;
      for (const float* w = begin; w < begin + kSumBlock; w += kLanes) {
        const Vec weight = load(w);
        const VecI in = weight >= splat(bound);
        sums += select(in, weight, Vec{});
        counts += select(in, splat(1), Vec{});
      }
      part.mass += double{sum(sums)};
      part.count += static_cast<int64_t>(sum(counts));
    }
    return part;
  }

  /// Calls body(id) for every token whose weight is in [low, high); low is above 0.
  template <class Body>
  void for_each_between(float low, float high, const Body& body) const {
    const auto in = [&](Vec weight) { return (weight >= splat(low)) & (weight < splat(high)); };
    for (int64_t begin = 0; begin < count_; begin += kFilterBlock) {
      Vec most = {};
      for (int64_t i = begin; i < begin + kFilterBlock; i += kLanes) {
        const Vec weight = load(data_.get() + i);
        most = max(most, select(in(weight), weight, Vec{}));
      }
      if (largest(most) == 0) continue;
      for (int64_t i = begin; i < begin + kFilterBlock; ++i)
        if ((*this)[i] >= low && (*this)[i] < high) body(static_cast<int32_t>(i));
    }
  }

  /// The id at which the sum of the weights, in order of their ids, reaches `uniform` (in (0, 1)) of the total.
  int32_t draw(float uniform) const {
    double left = double{uniform} * total_;
    size_t block = 0;
    for (; block + 1 < blocks_.size() && left >= blocks_[block]; ++block) left -= blocks_[block];
    int32_t chosen = -1;  // the last token with a weight so far, in case rounding leads beyond the end
    for (int64_t i = static_cast<int64_t>(block) * kSumBlock; i < count_ && (chosen < 0 || left >= 0); ++i) {
      if ((*this)[i] <= 0) continue;
      chosen = static_cast<int32_t>(i);
      left -= double{(*this)[i]};
    }
    return chosen;
  }

 private:
  template <class Function>
  void update(const Row& row, const Function& function) {
    total_ = 0;
    for (size_t block = 0; block < blocks_.size(); ++block) {
      Vec sums = {};
      const auto begin = static_cast<int64_t>(block) * kSumBlock;
      for (int64_t i = begin; i < std::min(count_, begin + kSumBlock); i += kLanes) {
        float* w = data_.get() + i;
        const Vec weight = function(row.vector(i), load(w), lane_numbers() + static_cast<int32_t>(i));
        store(w, weight);
        sums += weight;
      }
      blocks_[block] = double{sum(sums)};
      total_ += blocks_[block];
    }
  }

  int64_t count_;
  std::vector<double> blocks_;  ///< sum of each kSumBlock of them
  std::unique_ptr<float[]> data_;
  double total_ = 0;
};

/// The last candidate of the shortest prefix, in falling order, that is `enough`; null where all of them are not. The
/// tokens are divided by a bound of their weights, a vector pass each time, until few are left between the bounds: a
/// flat distribution has tens of thousands of tokens of about the same weight, which are too many to sort.
/// least: a bound that all weights of the prefix reach.
template <class Enough>
std::optional<Candidate> last_of_prefix(const Row& row, const Weights& weights, float least, const Enough& enough) {
  float low = least, high = 2;  // the weights of the tokens that may be the last are in [low, high); none is above 1
  Part from_low = weights.from(low), from_high;
  if (!enough(from_low)) return {};
  while (from_low.count - from_high.count > kSorted) {
    const float middle = std::sqrt(low) * std::sqrt(high);
    if (middle <= low || middle >= high) break;  // they have the same weight
    const Part from_middle = weights.from(middle);
    const bool kept = enough(from_middle);
    (kept ? low : high) = middle;
    (kept ? from_low : from_high) = from_middle;
  }
  std::vector<Candidate> candidates;
  weights.for_each_between(low, high, [&](int32_t id) { candidates.push_back({row[id], id}); });
  std::sort(candidates.begin(), candidates.end());
  Part prefix = from_high;
  for (const Candidate& c : candidates) {
    prefix.mass += double{weights[c.id]};
    ++prefix.count;
    if (enough(prefix)) return c;
  }
  return candidates.back();
}

/// Removes the tokens that top_k, and then top_p, exclude.
void filter(const Row& row, const SamplingParams& params, Weights& weights) {
  if (params.top_k > 0 && params.top_k < row.count) {
    const auto all = [&](const Part& prefix) { return prefix.count >= params.top_k; };
    const float least = std::numeric_limits<float>::min();  // a token of weight 0 is not drawn anyhow
    if (const auto last = last_of_prefix(row, weights, least, all)) weights.keep_until(row, *last);
  }
  if (params.top_p < 1) {
    const double mass = double{params.top_p} * weights.total();
    const auto all = [&](const Part& prefix) { return prefix.mass >= mass; };
    // All tokens below `least` together weigh less than top_p may exclude.
    const double least = (weights.total() - mass) / static_cast<double>(row.count);
    if (const auto last = last_of_prefix(row, weights, static_cast<float>(least), all)) weights.keep_until(row, *last);
  }
}

/// The first n in falling order, with their log-probabilities. The n-th best so far is a lower bound for all later
/// ones.
template <class LogprobOf>
void list_top(const Row& row, int32_t n, const LogprobOf& logprob_of, TokenLogprob* top) {
  Candidate best[kMostTopLogprobs];
  int32_t found = 0;
  float bound = std::numeric_limits<float>::lowest();
  for_each_from(
      row, [&] { return bound; },
      [&](const Candidate& c) {
        if (found == n && !(c < best[n - 1])) return;
        int32_t place = found < n ? found++ : n - 1;
        for (; place > 0 && c < best[place - 1]; --place) best[place] = best[place - 1];
        best[place] = c;
        if (found == n) bound = best[n - 1].logit;
      });
  for (int32_t i = 0; i < n; ++i)
    top[i] = i < found ? TokenLogprob{best[i].id, logprob_of(best[i].logit)} : TokenLogprob{};
}

int32_t draw(const Row& row, Candidate best, const SamplingParams& params, Weights& weights) {
  if (params.temperature <= 0 || best.id < 0) return best.id;
  weights.set(row, best.logit, params.temperature, params.min_p);
  filter(row, params, weights);
  return weights.draw(uniform_from_bits(philox(params.seed, 0, params.counter).v[0]));
}

/// Edits the logits of a row as long as it lives.
class Editing {
 public:
  Editing(float* data, const SamplingParams& params)
      : data_(data), params_(params), own_(static_cast<size_t>(params.edit_count)) {
    for (size_t j = 0; j < own_.size(); ++j) {
      const LogitEdit& edit = params.edits[j];
      own_[j] = std::exchange(data[edit.token], edited_logit(data[edit.token], edit));
    }
  }
  Editing(const Editing&) = delete;
  Editing& operator=(const Editing&) = delete;
  ~Editing() {
    for (size_t j = 0; j < own_.size(); ++j) data_[params_.edits[j].token] = own_[j];
  }

 private:
  float* data_;
  const SamplingParams& params_;
  std::vector<float> own_;
};

/// The first candidate of an edited row in falling order, where `best` was the first before.
Candidate best_of_edited(const Row& row, Candidate best, const SamplingParams& params) {
  const Candidate before = best;
  for (int32_t j = 0; j < params.edit_count; ++j) {
    const int32_t token = params.edits[j].token;
    if (token == before.id) return best_of(row);
    best = std::min(best, {row[token], token});
  }
  return best;
}

/// The token of one row, which may be edited.
int32_t draw_edited(float* data, const Row& row, Candidate best, const SamplingParams& params, Weights& weights) {
  if (params.edit_count == 0) return draw(row, best, params, weights);
  const Editing editing(data, params);
  return draw(row, best_of_edited(row, best, params), params, weights);
}

/// The token of one row, or -1 where no logit is finite, or where one that is to be scored has no softmax.
int32_t sample_row(float* data, int64_t count, const SamplingParams& params, Weights& weights, float* logprob,
                   TokenLogprob* top) {
  const Row row{data, count};
  const Candidate best = best_of(row);
  if (best.id < 0 || (params.given >= 0 && row.has_no_softmax())) return -1;
  const int32_t token = params.given >= 0 ? params.given : draw_edited(data, row, best, params, weights);
  if (token < 0) return -1;
  const int32_t listed = top == nullptr ? 0 : params.top_logprobs;
  if (logprob != nullptr || listed > 0) {
    weights.set(row, best.logit, 1);
    const double log_total = std::log(weights.total());
    const auto logprob_of = [&](float logit) {
      return static_cast<float>(double{logit} - double{best.logit} - log_total);
    };
    if (logprob != nullptr) *logprob = logprob_of(row[token]);
    if (listed > 0) list_top(row, listed, logprob_of, top);
  }
  return token;
}

}  // namespace

void CpuOps::sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
                    TokenLogprob* top) {
  check_sample(logits, params);
  float* data = logits.as<float>();
  parallel(logits.rows(), logits.columns() / 2, [&](int64_t begin, int64_t end) {
    Weights weights(logits.columns());
    for (int64_t i = begin; i < end; ++i)
      token[i] =
          sample_row(data + i * logits.row_stride, logits.columns(), params[i], weights,
                     logprob == nullptr ? nullptr : logprob + i, top == nullptr ? nullptr : top + i * kMostTopLogprobs);
  });
  for (int64_t i = 0; i < logits.rows(); ++i) check_finite_logits(token[i] >= 0, i);
}

}  // namespace mor::MOR_CPU_ISA
