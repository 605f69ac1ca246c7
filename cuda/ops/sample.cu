// sample on the GPU: one block for each row, a few passes over its logits, and no sort. Weights are fixed-point
// integers, so that every sum is exact and the same on every GPU.
#include <algorithm>
#include <utility>

#include "core/rng.h"
#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/select.cuh"
#include "ops/checks/sample.h"

namespace mor::cuda {

namespace {

constexpr float kOne = 1099511627776.0f;  // 2^40, weight of the most likely token; weights below 1 are never drawn

struct Drawn {
  int32_t token;  ///< -1: the logits are not finite
  float logprob;
};

/// The logits of one row. Those that are not finite are never drawn.
struct Logits {
  float* data;
  __device__ bool finite(int64_t i) const { return (__float_as_uint(data[i]) & 0x7f800000u) != 0x7f800000u; }
  __device__ float operator[](int64_t i) const { return finite(i) ? data[i] : -INFINITY; }
  __device__ uint32_t key(int64_t i) const { return ordered_key((*this)[i]); }
};

/// The logits that may be drawn: in falling order of keys, ties by index, all up to index `last` of key `key`.
struct Kept {
  uint32_t key;
  int64_t last;
  __device__ bool holds(const Logits& logit, int64_t i) const {
    const uint32_t k = logit.key(i);
    return logit.finite(i) && (k > key || (k == key && i <= last));
  }
};

/// The first k finite logits in falling order; there must be k. All threads of the block must call it.
__device__ Kept first_k(int64_t vocabulary, const Logits& logit, Weight k) {
  const auto key = [&](int64_t i) { return logit.key(i); };
  const auto one = [&](int64_t i) { return logit.finite(i) ? Weight{1} : Weight{0}; };
  const Cut cut = find_cut(vocabulary, key, one, k);
  const auto tie = [&](int64_t i) { return key(i) == cut.key ? one(i) : Weight{0}; };
  return {cut.key, find_in_order(vocabulary, tie, k - cut.above)};
}

/// Lists the first `count` finite logits in falling order, then (-1, 0) up to `listed`. The tokens are compacted by id,
/// and each finds its place by counting those before it. All threads of the block must call it.
template <class LogprobOf>
__device__ void list_top(int64_t vocabulary, const Logits& logit, int count, int listed, const LogprobOf& logprob_of,
                         TokenLogprob* top) {
  static_assert(kMostTopLogprobs <= 32, "the smallest block has a thread for every place of a list");
  __shared__ int32_t chosen[kMostTopLogprobs];
  const Kept kept = first_k(vocabulary, logit, static_cast<Weight>(count));
  compact_in_order(
      vocabulary, [&](int64_t i) { return kept.holds(logit, i); },
      [&](int64_t i, int64_t at) { chosen[at] = static_cast<int32_t>(i); });
  __syncthreads();
  const int own = static_cast<int>(threadIdx.x);
  if (own < count) {
    const uint32_t key = logit.key(chosen[own]);
    int place = 0;
    for (int other = 0; other < count; ++other) {
      const uint32_t other_key = logit.key(chosen[other]);
      if (other_key > key || (other_key == key && other < own)) ++place;
    }
    top[place] = {chosen[own], logprob_of(chosen[own])};
  } else if (own < listed) {
    top[own] = {};
  }
}

struct Peak {
  float most;     ///< the largest logit; -infinity: none is finite
  int64_t token;  ///< the first one that has it
  int finite;     ///< how many logits are
  double sum;     ///< of exp(logit - most)
};

/// All threads of the block must call it, like the functions below.
__device__ Peak find_peak(int64_t vocabulary, const Logits& logit) {
  float most = -INFINITY;
  for (int64_t i = threadIdx.x; i < vocabulary; i += blockDim.x) most = logit[i] > most ? logit[i] : most;
  most = block_reduce(most, Max{}, -INFINITY);
  if (most == -INFINITY) return {most, vocabulary, 0, 0};
  int64_t token = vocabulary;
  int finite = 0;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    if (logit[i] == most && i < token) token = i;
    finite += logit.finite(i) ? 1 : 0;
    sum += static_cast<double>(expf(logit[i] - most));
  }
  token = block_reduce(token, Min{}, vocabulary);
  finite = block_sum(finite);
  return {most, token, finite, block_sum(sum)};
}

/// Whether a logit is NaN or infinity, so that the softmax of the row is not a number.
__device__ bool has_no_softmax(int64_t vocabulary, const Logits& logit) {
  int wrong = 0;
  for (int64_t i = threadIdx.x; i < vocabulary; i += blockDim.x)
    wrong += logit.finite(i) || logit.data[i] == -INFINITY ? 0 : 1;
  return block_sum(wrong) > 0;
}

/// The token of a row whose peak is finite.
__device__ int64_t draw(int64_t vocabulary, const Logits& logit, const Peak& peak, const SamplingParams& p) {
  if (p.temperature <= 0) return peak.token;
  // The inverse of a tiny temperature must stay finite, so that 0 times it is 0.
  const float inverse = fminf(1.0f / p.temperature, 3.402823466e38f);
  Kept kept = {0, vocabulary};
  const auto weight = [&](int64_t i) {
    const float relative = kept.holds(logit, i) ? expf((logit[i] - peak.most) * inverse) : 0.0f;
    return relative >= p.min_p ? static_cast<Weight>(relative * kOne) : Weight{0};
  };
  const auto key = [&](int64_t i) { return logit.key(i); };
  const auto total = [&] {
    Weight own = 0;
    for (int64_t i = threadIdx.x; i < vocabulary; i += blockDim.x) own += weight(i);
    return block_sum(own);
  };
  if (p.top_k > 0 && p.top_k < peak.finite) kept = first_k(vocabulary, logit, static_cast<Weight>(p.top_k));
  if (p.top_p < 1) {
    const Weight mass = static_cast<Weight>(ceil(static_cast<double>(p.top_p) * static_cast<double>(total())));
    const Weight target = mass > 0 ? mass : 1;
    const Cut cut = find_cut(vocabulary, key, weight, target);
    const auto tie = [&](int64_t i) { return key(i) == cut.key ? weight(i) : Weight{0}; };
    kept = {cut.key, find_in_order(vocabulary, tie, target - cut.above)};
  }
  const Weight mass = total();
  const float uniform = uniform_from_bits(philox(p.seed, 0, p.counter).v[0]);
  const Weight point = static_cast<Weight>(static_cast<double>(uniform) * static_cast<double>(mass));
  return find_in_order(vocabulary, weight, (point < mass ? point : mass - 1) + 1);
}

/// Puts the edited logits into the row and the row's own into `own` [edit_count].
__device__ void apply_edits(const Logits& logit, const SamplingParams& p, float* own) {
  __syncthreads();  // all threads have read the row's own logits
  for (int j = static_cast<int>(threadIdx.x); j < p.edit_count; j += static_cast<int>(blockDim.x)) {
    const LogitEdit edit = p.edits[j];
    own[j] = logit.data[edit.token];
    logit.data[edit.token] = edited_logit(own[j], edit);
  }
  __syncthreads();
}

__device__ void revert_edits(const Logits& logit, const SamplingParams& p, const float* own) {
  __syncthreads();  // all threads have read the edited logits
  for (int j = static_cast<int>(threadIdx.x); j < p.edit_count; j += static_cast<int>(blockDim.x))
    logit.data[p.edits[j].token] = own[j];
  __syncthreads();
}

__global__ void __launch_bounds__(kMostSelectThreads)
    sample_kernel(int64_t vocabulary, float* logits /*[R,V]*/, int64_t logits_stride,
                  const SamplingParams* params /*[R]*/, const LogitEdit* edits /*of all rows*/, float* own /*[edits]*/,
                  Drawn* drawn /*[R]*/, TokenLogprob* top /*[R,kMostTopLogprobs], or null*/) {
  wait_for_earlier_kernels();
  const Logits logit{logits + blockIdx.x * logits_stride};
  const SamplingParams p = params[blockIdx.x];
  const Peak peak = find_peak(vocabulary, logit);
  int64_t token = -1;
  if (p.given >= 0) {
    if (peak.most > -INFINITY && !has_no_softmax(vocabulary, logit)) token = p.given;
  } else if (peak.most > -INFINITY) {
    if (p.edit_count > 0) {
      own += p.edits - edits;
      apply_edits(logit, p, own);
      const Peak edited = find_peak(vocabulary, logit);
      if (edited.most > -INFINITY) token = draw(vocabulary, logit, edited, p);
      revert_edits(logit, p, own);
    } else {
      token = draw(vocabulary, logit, peak, p);
    }
  }
  if (token < 0) {
    if (threadIdx.x == 0) drawn[blockIdx.x] = {-1, 0.0f};
    return;
  }
  const auto logprob_of = [&](int64_t i) {
    return static_cast<float>(static_cast<double>(logit[i]) - static_cast<double>(peak.most) - log(peak.sum));
  };
  if (threadIdx.x == 0) drawn[blockIdx.x] = {static_cast<int32_t>(token), logprob_of(token)};
  if (top != nullptr && p.top_logprobs > 0)
    list_top(vocabulary, logit, p.top_logprobs < peak.finite ? p.top_logprobs : peak.finite, p.top_logprobs, logprob_of,
             top + blockIdx.x * kMostTopLogprobs);
}

/// Copies the edits of all rows to `arena`, one row's behind another's, and lets the params point there. Null if there
/// are none.
LogitEdit* upload_edits(Ops& ops, Arena& arena, std::vector<SamplingParams>& params) {
  std::vector<LogitEdit> edits;
  for (const SamplingParams& p : params) edits.insert(edits.end(), p.edits, p.edits + p.edit_count);
  if (edits.empty()) return nullptr;
  auto* device = static_cast<LogitEdit*>(arena.allocate(edits.size() * sizeof(LogitEdit)));
  ops.copy_to_device(device, edits.data(), edits.size() * sizeof(LogitEdit));
  const LogitEdit* next = device;
  for (SamplingParams& p : params) p.edits = std::exchange(next, next + p.edit_count);
  return device;
}

}  // namespace

void CudaOps::sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
                     TokenLogprob* top) {
  check_sample(logits, params);
  const size_t rows = static_cast<size_t>(logits.rows());
  if (rows == 0) return;
  const ArenaScope scope(scratch_);
  std::vector<SamplingParams> all(params, params + rows);
  const LogitEdit* edits = upload_edits(*this, scratch_, all);
  float* own = edits == nullptr ? nullptr : scratch_.array<float>(all.back().edits + all.back().edit_count - edits);
  auto* device_params = scratch_.array<SamplingParams>(logits.rows());
  auto* device_drawn = scratch_.array<Drawn>(logits.rows());
  const bool listed =
      top != nullptr && std::any_of(params, params + rows, [](const auto& p) { return p.top_logprobs > 0; });
  std::vector<TokenLogprob> lists(listed ? rows * kMostTopLogprobs : 0);
  auto* device_lists = listed ? scratch_.array<TokenLogprob>(logits.rows() * kMostTopLogprobs) : nullptr;
  copy_to_device(device_params, all.data(), rows * sizeof(SamplingParams));
  launch(sample_kernel, dim3(blocks_for(logits.rows(), 1)), dim3(select_threads(logits.columns())), 0, stream_,
         logits.columns(), logits.as<float>(), logits.row_stride, device_params, edits, own, device_drawn,
         device_lists);
  std::vector<Drawn> drawn(rows);
  copy_to_host(drawn.data(), device_drawn, rows * sizeof(Drawn));
  if (listed) copy_to_host(lists.data(), device_lists, lists.size() * sizeof(TokenLogprob));
  for (size_t i = 0; i < rows; ++i) {
    check_finite_logits(drawn[i].token >= 0, static_cast<int64_t>(i));
    token[i] = drawn[i].token;
    if (logprob != nullptr) logprob[i] = drawn[i].logprob;
    if (listed) std::copy_n(&lists[i * kMostTopLogprobs], params[i].top_logprobs, top + i * kMostTopLogprobs);
  }
}

}  // namespace mor::cuda
