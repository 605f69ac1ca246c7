// SharedKeys: buffers, and which recursion reads or writes them.
#include "model/shared_keys.h"

namespace mor {

namespace {

KeyBuffers allocate_keys(Pass& pass, int64_t rows, const char* keys, const char* values) {
  const ModelConfig& config = pass.model.config();
  KeyBuffers buffers;
  const auto buffer = [&](const char* name) {
    return pass.arena().tensor(pass.ops().compute_dtype(), rows, config.key_value_size(), name).heads(config.head_dim);
  };
  for (int32_t layer = 0; layer < config.body_layers(); ++layer) {
    buffers.k.push_back(buffer(keys));
    buffers.v.push_back(buffer(values));
  }
  return buffers;
}

KeyBuffers allocate_gradients(Pass& pass, const SharedKeys& shared) {
  if (shared.first.k.empty()) return {};
  KeyBuffers gradients = allocate_keys(pass, shared.first.k[0].rows(), "d_keys", "d_values");
  for (size_t i = 0; i < gradients.k.size(); ++i) {
    zero(pass.ops(), gradients.k[i]);
    zero(pass.ops(), gradients.v[i]);
  }
  return gradients;
}

/// Whether tokens at recursion r show entries of their own while the others show those of recursion 1.
bool shows_several_lists(const Pass& pass, int32_t r) {
  return r > 1 && pass.rules.sees_several_lists();
}

}  // namespace

SharedKeys allocate_shared_keys(Pass& pass, int64_t rows) {
  SharedKeys shared;
  if (pass.rules.sees_tokens_that_left()) shared.first = allocate_keys(pass, rows, "shared keys", "shared values");
  return shared;
}

void allocate_shared_gradients(Pass& pass, SharedKeys& shared) {
  shared.d_first = allocate_gradients(pass, shared);
}

Layers block_layers_at(Pass& pass, int32_t r, SharedKeys& shared) {
  Layers layers = layers_of_block(pass.model.config());
  if (r > 1) layers.first.assign(layers.first.size(), false);
  const bool several = shows_several_lists(pass, r);
  if (several && (pass.options.keep || shared.shown.k.empty()))
    shared.shown = allocate_keys(pass, shared.first.k[0].rows(), "shown keys", "shown values");
  const auto copy = [&](const Tensor& from, const Tensor& to) {
    pass.ops().copy(to.data, from.data, static_cast<size_t>(from.count()) * dtype_size(from.dtype));
  };
  for (size_t i = 0; i < shared.first.k.size(); ++i) {
    const KeyBuffers& buffers = several ? shared.shown : shared.first;
    if (several) {
      copy(shared.first.k[i], buffers.k[i]);
      copy(shared.first.v[i], buffers.v[i]);
    }
    layers.keys[i].source = pass.rules.queries_only(r) ? KeySource::given : KeySource::cache;
    layers.keys[i].k = buffers.k[i];
    layers.keys[i].v = buffers.v[i];
  }
  return layers;
}

void block_layers_backward(Pass& pass, int32_t r, const Rows& rows, const SharedKeys& shared, LayerRun& run,
                           const Tensor& d) {
  const ArenaScope scope(pass.arena());
  const bool several = shows_several_lists(pass, r);
  const KeyBuffers gradients = several ? allocate_gradients(pass, shared) : shared.d_first;
  for (size_t i = 0; i < gradients.k.size(); ++i) {
    run.layers.keys[i].d_k = gradients.k[i];
    run.layers.keys[i].d_v = gradients.v[i];
  }
  layers_backward(pass, rows, run, d);
  if (!several) return;
  // The layers have taken the gradients of their own entries. What is left belongs to tokens that do not run recursion
  // r, which show their entries of recursion 1.
  for (size_t i = 0; i < gradients.k.size(); ++i) {
    pass.ops().add_rows(gradients.k[i], nullptr, shared.d_first.k[i]);
    pass.ops().add_rows(gradients.v[i], nullptr, shared.d_first.v[i]);
  }
}

}  // namespace mor
