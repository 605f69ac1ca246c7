// TensorTable: which elements of a checkpoint's tensors lie in this rank's memory, and where.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "train/trainer.h"

namespace mor {

/// A tensor as it is in files, and what this rank has of it: everything, some parts, or nothing.
struct CheckpointTensor {
  int64_t rows = 0, count = 0;  ///< of the whole tensor: [rows, count / rows]
  std::vector<NamedTensor> parts;
};
/// By name: the same names on every rank.
using TensorTable = std::unordered_map<std::string, CheckpointTensor>;

/// The weights of a model, all of them.
TensorTable weights_table(const Model& model);
/// A trainer's state, of which this rank has what it keeps. Throws what Trainer::state throws.
TensorTable state_table(const Trainer& trainer);
/// What the ranks write of a trainer's checkpoint: its state and the weights of its model, each element on exactly one
/// rank. All ranks have the same weights, and each writes an equal share of every tensor. Throws what Trainer::state
/// throws.
TensorTable checkpoint_table(const Trainer& trainer);

}  // namespace mor
