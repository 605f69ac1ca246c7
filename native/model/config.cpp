// ModelConfig: what protects memory, and the layer map.
#include "model/config.h"

#include <algorithm>
#include <cmath>

namespace mor {

namespace {

bool has_middle(Sharing sharing) {
  return sharing == Sharing::middle_cycle || sharing == Sharing::middle_sequence;
}

void check_sizes(const ModelConfig& c) {
  const auto positive = [](const char* key, int32_t value) {
    MOR_CHECK(value >= 1, INVALID_CONFIG, key, " must be at least 1, got ", value);
  };
  constexpr int32_t kMostLayers = 1 << 16;
  positive("vocab_size", c.vocab_size);
  positive("hidden_size", c.hidden_size);
  positive("intermediate_size", c.intermediate_size);
  positive("num_hidden_layers", c.num_hidden_layers);
  positive("num_attention_heads", c.num_attention_heads);
  positive("num_key_value_heads", c.num_key_value_heads);
  positive("max_position_embeddings", c.max_position_embeddings);
  positive("num_recursions", c.num_recursions);
  MOR_CHECK(c.head_dim >= 2 && c.head_dim % 2 == 0, INVALID_CONFIG,
            "head_dim must be even and at least 2 (rotary pairs), got ", c.head_dim);
  MOR_CHECK(c.num_hidden_layers <= kMostLayers, INVALID_CONFIG, "num_hidden_layers must be at most ", kMostLayers,
            ", got ", c.num_hidden_layers);
  const int64_t heads = c.num_attention_heads + int64_t{2} * c.num_key_value_heads,
                columns = std::max(heads * c.head_dim, int64_t{2} * c.intermediate_size);
  MOR_CHECK(columns <= INT32_MAX, INVALID_CONFIG, "a layer of ", c.num_attention_heads, " query heads, ",
            c.num_key_value_heads, " key and value heads, head_dim ", c.head_dim, " and intermediate_size ",
            c.intermediate_size, " is too wide: its rows would have ", columns, " columns, and may have ", INT32_MAX);
  MOR_CHECK(c.num_attention_heads % c.num_key_value_heads == 0, INVALID_CONFIG, "num_attention_heads (",
            c.num_attention_heads, ") must be a multiple of num_key_value_heads (", c.num_key_value_heads, ")");
}

void check_depth(const ModelConfig& c) {
  const int32_t n = c.num_recursions, outside = has_middle(c.sharing) ? 2 : 0;
  if (n == 1) return;
  const int32_t inside = c.num_hidden_layers - outside;
  if (inside >= n && inside % n == 0) return;
  const int32_t below = std::max(1, inside / n) * n + outside, above = (std::max(0, inside) / n + 1) * n + outside;
  MOR_FAIL(INVALID_CONFIG, "num_hidden_layers ", c.num_hidden_layers, " does not divide into num_recursions ", n,
           " under ", sharing_name(c.sharing), "; nearest valid depths: ", below, " and ", std::max(above, below + n));
}

void check_capacities(const ModelConfig& c) {
  const std::vector<double>& capacities = c.router.capacities;
  if (capacities.empty()) return;
  MOR_CHECK(c.router.type == RouterType::expert_choice, INVALID_CONFIG,
            "capacities belong to an expert_choice router only");
  MOR_CHECK(static_cast<int32_t>(capacities.size()) == c.num_recursions, INVALID_CONFIG, "capacities has ",
            capacities.size(), " entries, but num_recursions is ", c.num_recursions);
  for (size_t r = 0; r < capacities.size(); ++r) {
    MOR_CHECK(capacities[r] > 0 && capacities[r] <= 1, INVALID_CONFIG, "capacities[", r, "] must be in (0, 1], got ",
              capacities[r]);
    MOR_CHECK(r == 0 || capacities[r] <= capacities[r - 1], INVALID_CONFIG, "capacities must not rise: capacities[", r,
              "] = ", capacities[r], " after ", r == 0 ? 1.0 : capacities[r - 1]);
  }
}

void check_router(const ModelConfig& c) {
  check_capacities(c);
  if (c.kv_cache != KvCachePolicy::recursion_wise)
    MOR_CHECK(
        c.body_recursions() > 1, INVALID_CONFIG, "kv_cache '", kv_cache_name(c.kv_cache),
        "' needs a recurring block: num_recursions > 1 and sharing 'cycle' or 'middle_cycle', got num_recursions ",
        c.num_recursions, " and '", sharing_name(c.sharing), "'");
  MOR_CHECK(c.kv_cache != KvCachePolicy::hybrid || c.router.type == RouterType::expert_choice, INVALID_CONFIG,
            "kv_cache 'hybrid' needs an expert_choice router");
  if (!c.routed()) return;
  MOR_CHECK(c.num_recursions > 1, INVALID_CONFIG, "a router needs num_recursions > 1, got ", c.num_recursions);
  MOR_CHECK(c.body_recursions() > 1, INVALID_CONFIG, "a router works with sharing 'cycle' or 'middle_cycle', not '",
            sharing_name(c.sharing), "'");
}

}  // namespace

const char* sharing_name(Sharing sharing) {
  constexpr const char* kNames[] = {"cycle", "sequence", "middle_cycle",
                                    "middle_sequence"};  // in the order of the enum
  return kNames[static_cast<size_t>(sharing)];
}

const char* kv_cache_name(KvCachePolicy policy) {
  constexpr const char* kNames[] = {"recursion_wise", "shared", "hybrid"};  // in the order of the enum
  return kNames[static_cast<size_t>(policy)];
}

void ModelConfig::validate() const {
  check_sizes(*this);
  check_depth(*this);
  check_router(*this);
}

int32_t ModelConfig::unique_layers() const {
  if (num_recursions == 1) return num_hidden_layers;
  return has_middle(sharing) ? (num_hidden_layers - 2) / num_recursions + 2 : num_hidden_layers / num_recursions;
}

int32_t ModelConfig::unique_layer(int32_t l) const {
  const int32_t n = num_recursions, last = num_hidden_layers - 1;
  if (n == 1) return l;
  if (has_middle(sharing)) {
    if (l == 0) return 0;
    if (l == last) return unique_layers() - 1;
    return sharing == Sharing::middle_cycle ? 1 + (l - 1) % (unique_layers() - 2) : 1 + (l - 1) / n;
  }
  return sharing == Sharing::cycle ? l % unique_layers() : l / n;
}

int32_t ModelConfig::body_recursions() const {
  const bool cycles = sharing == Sharing::cycle || sharing == Sharing::middle_cycle;
  return num_recursions > 1 && cycles ? num_recursions : 0;
}

int32_t ModelConfig::body_layers() const {
  return body_recursions() == 0 ? 0 : unique_layers() - (has_middle(sharing) ? 2 : 0);
}

int32_t ModelConfig::layers_before() const {
  return body_recursions() == 0 ? num_hidden_layers : (has_middle(sharing) ? 1 : 0);
}

int32_t ModelConfig::layers_after() const {
  return num_hidden_layers - layers_before() - body_recursions() * body_layers();
}

int32_t ModelConfig::selected_count(int32_t r, int32_t length, int64_t step,
                                    std::optional<int64_t> warmup_steps) const {
  const int32_t n = num_recursions;
  const int64_t warmup = warmup_steps.value_or(router.capacity_warmup_steps);
  const bool warming = step < warmup;
  if (router.capacities.empty() && !warming)
    return std::max<int32_t>(1, static_cast<int32_t>(static_cast<int64_t>(n - r + 1) * length / n));
  double capacity =
      router.capacities.empty() ? static_cast<double>(n - r + 1) / n : router.capacities[static_cast<size_t>(r - 1)];
  if (warming) {
    const double progress = static_cast<double>(step) / static_cast<double>(warmup);
    capacity += (1 - capacity) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress));
  }
  return std::min(length, std::max<int32_t>(1, static_cast<int32_t>(std::floor(capacity * length))));
}

bool ModelConfig::runs_all(int32_t r) const {
  return router.capacities.empty() ? r == 1 : router.capacities[static_cast<size_t>(r - 1)] >= 1;
}

}  // namespace mor
