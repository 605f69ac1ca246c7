// SharedKeys: buffers, and which recursion reads or writes them.
#include "model/shared_keys.h"

namespace mor {

SharedKeys allocate_shared_keys(Pass& pass, int64_t rows) {
  const ModelConfig& config = pass.model.config();
  SharedKeys shared;
  if (!pass.rules.sees_tokens_that_left()) return shared;
  for (int32_t layer = 0; layer < config.body_layers(); ++layer) {
    const auto buffer = [&](const char* name) {
      return pass.arena()
          .tensor(pass.ops().compute_dtype(), rows, config.key_value_size(), name)
          .heads(config.head_dim);
    };
    shared.k.push_back(buffer("shared keys"));
    shared.v.push_back(buffer("shared values"));
  }
  return shared;
}

void allocate_shared_gradients(Pass& pass, SharedKeys& shared) {
  for (const Tensor& k : shared.k) {
    const auto buffer = [&](const char* name) {
      const Tensor t = pass.arena().tensor(k.dtype, k.rows(), k.columns(), name).heads(pass.model.config().head_dim);
      zero(pass.ops(), t);
      return t;
    };
    shared.d_k.push_back(buffer("d_shared keys"));
    shared.d_v.push_back(buffer("d_shared values"));
  }
}

Layers block_layers_at(Pass& pass, int32_t r, SharedKeys& shared) {
  Layers layers = layers_of_block(pass.model.config());
  const auto copied = [&](Tensor& t) {
    const Tensor fresh =
        pass.arena().tensor(t.dtype, t.rows(), t.columns(), t.name).heads(pass.model.config().head_dim);
    pass.ops().copy(fresh.data, t.data, static_cast<size_t>(t.count()) * dtype_size(t.dtype));
    t = fresh;
  };
  for (size_t i = 0; i < shared.k.size(); ++i) {
    if (r > 1 && pass.rules.sees_several_lists() && pass.options.keep) {
      copied(shared.k[i]);
      copied(shared.v[i]);
    }
    layers.keys[i].source = pass.rules.queries_only(r) ? KeySource::given : KeySource::cache;
    layers.keys[i].k = shared.k[i];
    layers.keys[i].v = shared.v[i];
  }
  return layers;
}

void attach_shared_gradients(const SharedKeys& shared, Layers& layers) {
  for (size_t i = 0; i < shared.d_k.size(); ++i) {
    layers.keys[i].d_k = shared.d_k[i];
    layers.keys[i].d_v = shared.d_v[i];
  }
}

}  // namespace mor
