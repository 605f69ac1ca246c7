// Tables of models and trainers.
#include "checkpoint/tensor_table.h"

#include <functional>
#include <numeric>

#include "checkpoint/element_chunks.h"

namespace mor {

namespace {

/// Elements [count * rank / ranks, count * (rank + 1) / ranks) of a whole tensor, as one row.
NamedTensor share_of(const NamedTensor& whole, const Ranks& ranks) {
  const int64_t count = whole.tensor.count(), begin = count * ranks.rank() / ranks.size(),
                end = count * (ranks.rank() + 1) / ranks.size();
  const Tensor& tensor = whole.tensor;
  return {whole.name, make_tensor(element(tensor, begin), tensor.dtype, 1, end - begin, tensor.name), begin};
}

}  // namespace

TensorTable weights_table(const Model& model) {
  TensorTable table;
  for (const NamedTensor& whole : model.checkpoint_tensors())
    table[whole.name] = {whole.tensor.rows(), whole.tensor.count(), {whole}};
  return table;
}

TensorTable state_table(const Trainer& trainer) {
  TensorTable table;
  for (const auto& [name, shape] : trainer.whole_state())
    table[name] = {shape[0], std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()), {}};
  for (const NamedTensor& part : trainer.state()) table.at(part.name).parts.push_back(part);
  return table;
}

TensorTable checkpoint_table(const Trainer& trainer) {
  TensorTable table = state_table(trainer);
  for (auto& [name, weights] : weights_table(trainer.model())) {
    weights.parts = {share_of(weights.parts[0], trainer.ranks())};
    table.emplace(name, std::move(weights));
  }
  return table;
}

}  // namespace mor
