// The whole model over one batch of equal-length sequences: losses and gradients, evaluation, logits.
// Must not know of optimisers or requests.
#pragma once

#include "model/recursion.h"

namespace mor {

/// `sequences` rows of `length` tokens, one after another, in device memory.
struct Batch {
  int32_t sequences = 0, length = 0;
  const int32_t* tokens = nullptr;   ///< [sequences * length]
  const int32_t* targets = nullptr;  ///< [sequences * length], the next token of each; null where no loss is wanted
};

struct PassResult {
  double lm_loss = 0;  ///< mean over the targets of the batch
  PassStatistics statistics;
  /// The language-model loss and every auxiliary term.
  double loss() const { return lm_loss + statistics.auxiliary_loss + statistics.z_loss + statistics.balancing_loss; }
};

/// Forward and backward: gradients of options.loss_scale * (mean cross-entropy + auxiliary terms) accumulate into
/// `gradients` (views of a flat master buffer). The arena is reset first and holds the activations afterwards.
PassResult training_pass(const Model& model, Arena& arena, const ModelTensors& gradients, const Batch& batch,
                         PassOptions options);

/// Forward only: losses and statistics.
PassResult evaluation_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options);

/// logits [sequences * length, vocab] float32 host, depths [sequences * length] host (recursions each token ran; 0 for
/// models without a recurring block).
void logits_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options, float* logits,
                 uint8_t* depths);

}  // namespace mor
