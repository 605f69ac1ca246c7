// The ranks' weights are compared by a hash, for which the host reads them in chunks.
#include "train/divergence.h"

#include <algorithm>
#include <map>

#include "core/hash.h"

namespace mor {

namespace {

constexpr size_t kChunk = size_t{1} << 18;  ///< bytes: few enough to stay in a processor's cache

std::string name_all(const std::vector<size_t>& ranks) {
  std::string names = ranks.size() == 1 ? "rank " : "ranks ";
  for (const size_t& rank : ranks) names += concat(&rank == &ranks[0] ? "" : ", ", rank);
  return names;
}

}  // namespace

uint64_t weights_hash(const Model& model) {
  std::string host;
  uint64_t hash = 0;
  for (const NamedTensor& named : model.checkpoint_tensors()) {
    const Tensor& tensor = named.tensor;
    const size_t bytes = static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype);
    for (size_t begin = 0; begin < bytes; begin += kChunk) {
      host.resize(std::min(kChunk, bytes - begin));
      model.ops().copy_to_host(host.data(), static_cast<const char*>(tensor.data) + begin, host.size());
      hash = hash_bytes(host.data(), host.size(), hash);
    }
  }
  return hash;
}

void check_same_weights(const Ranks& ranks, RankCall call, const Model& model, int64_t steps_done) {
  const std::vector<std::string> told = ranks.gather_bytes(call, [&] {
    const uint64_t hash = weights_hash(model);
    return std::string(reinterpret_cast<const char*>(&hash), sizeof hash);
  });
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t rank = 0; rank < told.size(); ++rank) groups[told[rank]].push_back(rank);
  if (groups.size() == 1) return;
  // Of two equally large groups, that of the first rank.
  const std::vector<size_t>* most = &groups[told[0]];
  for (const auto& [hash, group] : groups)
    if (group.size() > most->size()) most = &group;
  std::vector<size_t> others;
  for (size_t rank = 0; rank < told.size(); ++rank)
    if (told[rank] != told[most->front()]) others.push_back(rank);
  MOR_FAIL(COMMUNICATION_FAILED, "after step ", steps_done, ", the weights of ", name_all(others), " are not those of ",
           name_all(*most),
           "; start all ranks from the same checkpoint, and if they differ again, look for faults of those machines");
}

}  // namespace mor
