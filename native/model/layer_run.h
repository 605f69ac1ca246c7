// Layers that run one after another over the same rows, forward and backward.
#pragma once

#include <functional>
#include <vector>

#include "model/pass.h"

namespace mor {

struct Layers {
  std::vector<int32_t> unique;  ///< unique layer of each (ModelConfig::unique_layer)
  std::vector<LayerKeys> keys;  ///< where the keys and values of each come from
  std::vector<bool> first;      ///< whether the unique layer has not run before in the pass
};

/// The layers that run once before the block, those of one pass of the block, and those that run once after it. In all
/// of them, the rows attend to their own keys.
Layers layers_before_block(const ModelConfig& config);
Layers layers_of_block(const ModelConfig& config);
Layers layers_after_block(const ModelConfig& config);

/// Runs the layers in place: x [R, d] becomes the output of the last one, and nothing is kept for a backward. stream:
/// as in layer_forward, for the first layer. before_layer(i), if there is one, is called before layers.unique[i].
void run_layers(const LayerContext& context, const ModelTensors& tensors, const Layers& layers, const Rows& rows,
                const Tensor& stream, const Tensor& x, const std::function<void(size_t)>& before_layer = {});

/// One run of layers in a pass.
struct LayerRun {
  Layers layers;
  std::vector<LayerActivations> kept;  ///< of each layer, if the pass has PassOptions::keep
  Tensor out;                          ///< [R, d]
};

/// Runs run.layers over `rows`, reading stream[rows.source[i]]; fills kept and out.
void layers_forward(Pass& pass, const Rows& rows, const Tensor& stream, LayerRun& run);
/// d [R, d]: gradient of out, becomes the gradient of the gathered input.
void layers_backward(Pass& pass, const Rows& rows, const LayerRun& run, const Tensor& d);

/// Adds to the report the forward FLOPs of `layers` layers over rows that each see rows.visible[i] keys.
void report_layers(Pass& pass, const Rows& rows, int64_t layers, bool queries_only);

}  // namespace mor
