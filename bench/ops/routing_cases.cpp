// Cases of routers, selection, their losses, and sampling.
#include "bench/ops/case.h"

namespace mor::bench {

namespace {

constexpr int32_t kRecursions = 3;

void add_scores(const Shape& s, Cases& cases) {
  const double elements = static_cast<double>(s.batch_rows * s.hidden), rows = static_cast<double>(s.batch_rows);
  cases.add({.op = "router_scores_forward", .bytes = s.size * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), w = b.activations(1, s.hidden),
                 scores = b.masters(s.batch_rows, 1);
    return [=](Ops& ops) { ops.router_scores_forward(x, nullptr, w, scores); };
  });
  cases.add({.op = "router_scores_backward", .bytes = 3 * s.size * elements + 4 * rows}, [=](Buffers& b) -> Run {
    const Tensor x = b.activations(s.batch_rows, s.hidden), w = b.activations(1, s.hidden);
    const Tensor d_scores = b.masters(s.batch_rows, 1), d_x = b.activations(s.batch_rows, s.hidden),
                 d_w = b.masters(1, s.hidden);
    return [=](Ops& ops) { ops.router_scores_backward(d_scores, x, nullptr, w, d_x, d_w); };
  });
  cases.add({.op = "router_gate_forward", .bytes = 8 * rows}, [=](Buffers& b) -> Run {
    const Tensor scores = b.master_vector(s.batch_rows), gate = b.master_vector(s.batch_rows);
    return [=](Ops& ops) { ops.router_gate_forward(scores, nullptr, Activation::sigmoid, 0.1, gate); };
  });
}

void add_choices(const Shape& s, Cases& cases) {
  const int64_t n = s.rows.front();
  const double rows = static_cast<double>(n);
  // scores, half of the indices, one byte a row
  cases.add({.op = "select_topk", .bytes = rows * (4 + 2 + 1)}, [=](Buffers& b) -> Run {
    const Tensor scores = b.master_vector(n);
    const int32_t* parent = b.integers({0, static_cast<int32_t>(n)});
    int32_t *index = b.random_integers(n, 1), *start = b.random_integers(2, 1);
    uint8_t* selected = b.copied(std::vector<uint8_t>(static_cast<size_t>(n)));
    const auto k = static_cast<int32_t>((n + 1) / 2);
    return [=](Ops& ops) { ops.select_topk(scores, parent, 1, k, index, start, selected); };
  });
  cases.add({.op = "expert_choice_loss", .bytes = rows * (4 + 1 + 8)}, [=](Buffers& b) -> Run {
    const Tensor scores = b.master_vector(n), sums = b.master_vector(3), d_scores = b.master_vector(n);
    const uint8_t* selected = b.copied(std::vector<uint8_t>(static_cast<size_t>(n), 1));
    return [=](Ops& ops) { ops.expert_choice_loss(scores, selected, 0, 1e-3, 1e-3, sums, d_scores); };
  });
  cases.add({.op = "token_choice_forward", .bytes = rows * (8 * kRecursions + 8)}, [=](Buffers& b) -> Run {
    const Tensor logits = b.masters(n, kRecursions), probabilities = b.masters(n, kRecursions);
    const Tensor bias = b.master_vector(kRecursions), gate = b.master_vector(n);
    const Tensor load = b.master_vector(kRecursions), p_sum = b.master_vector(kRecursions), z = b.master_vector(1);
    int32_t* depth = b.random_integers(n, 1);
    return [=](Ops& ops) {
      ops.token_choice_forward(logits, bias, Activation::softmax, 1, probabilities, depth, gate, load, p_sum, z);
    };
  });
}

/// The rows whose tokens one decoding step samples.
void add_sample(const Shape& s, Cases& cases) {
  constexpr int64_t kRows = 64;
  const double bytes = 4 * static_cast<double>(kRows * s.vocabulary);
  const auto with = [&](const char* variant, SamplingParams params, int64_t edits = 0) {
    cases.add({.op = "sample", .variant = variant, .bytes = bytes, .waits = true}, [=](Buffers& b) -> Run {
      const Tensor logits = b.masters(kRows, s.vocabulary);
      const auto list = std::make_shared<std::vector<LogitEdit>>();
      for (int32_t i = 0; i < std::min(edits, s.vocabulary / 2); ++i)
        list->push_back({.token = 2 * i, .repetition = 1.1f, .penalty = 0.5f});
      std::vector<SamplingParams> all(kRows, params);
      for (SamplingParams& p : all) {
        p.edits = list->data();
        p.edit_count = static_cast<int32_t>(list->size());
      }
      std::vector<int32_t> token(kRows);
      return [logits, list, all, token](Ops& ops) mutable {
        ops.sample(logits, all.data(), token.data(), nullptr, nullptr);
      };
    });
  };
  with("greedy", {});
  const SamplingParams draw = {.temperature = 0.8f, .top_k = 50, .top_p = 0.95f};
  with("top_k_top_p", draw);
  with("edits_top_k_top_p", draw, 500);
}

}  // namespace

void add_routing_cases(const Shape& shape, Cases& cases) {
  add_scores(shape, cases);
  add_choices(shape, cases);
  add_sample(shape, cases);
}

}  // namespace mor::bench
