// The one table of a model's tensors: what each one is and where it lies. Allocation, initialisation, checkpoints, the
// optimiser and size reports walk it; nothing else lists tensors.
#pragma once

#include <string>
#include <vector>

#include "model/model_tensors.h"

namespace mor {

/// A tensor and the name that it has in files; or neighbouring elements of one.
struct NamedTensor {
  std::string name;
  Tensor tensor;      ///< on the device, contiguous
  int64_t begin = 0;  ///< which element of the whole tensor, counted row by row, the first one is
};

class Parameters {
 public:
  /// compute and master: dtypes of the device that is to hold the weights. Throws INVALID_CONFIG, and OUT_OF_MEMORY
  /// for a table of more bytes than any device has.
  Parameters(const ModelConfig& config, DType compute, DType master);
  /// rows: those of `parameter_rows`, of which the caller may have changed `storage`, or frozen some. size() is made a
  /// multiple of `parts`, so that flat buffers have so many equal parts.
  Parameters(const ModelConfig& config, std::vector<Parameter> rows, int64_t parts = 1);

  const std::vector<Parameter>& list() const { return list_; }
  /// Bytes of the buffer that holds the weights, gaps for alignment included.
  size_t bytes() const { return static_cast<size_t>(bytes_); }
  /// Elements of a flat buffer of masters or moments, gaps for alignment included. Those that belong to no parameter
  /// have gradients of 0.
  int64_t size() const { return size_; }
  /// Elements of a flat buffer of gradients: those of size(), and behind them the gradients that are computed though
  /// nothing is trained by them.
  int64_t gradient_size() const { return gradient_size_; }
  /// Number of trained scalars.
  int64_t count() const;
  /// Whether one buffer can serve as weights and as masters: every trained tensor is stored in the master dtype, at the
  /// offset that it has in flat buffers.
  bool are_masters(DType master) const;
  /// Views into a buffer of bytes() bytes.
  ModelTensors weights(void* buffer) const;
  /// Views into a flat buffer of gradient_size() elements; empty where no gradient is computed.
  ModelTensors gradients(const Tensor& flat) const;
  /// One segment for each trained tensor, in the order of list(). weight_decay: that of the tensors that decay.
  std::vector<ParameterSegment> segments(float weight_decay) const;

 private:
  void place_in_flat_buffers(int64_t parts);
  template <class Place>
  ModelTensors views(const Place& place) const;

  const ModelConfig config_;
  std::vector<Parameter> list_;
  int64_t bytes_ = 0, size_ = 0, gradient_size_ = 0;
};

/// Every tensor of a model in the order of its checkpoint, with its storage but without its place.
std::vector<Parameter> parameter_rows(const ModelConfig& config, DType compute, DType master);

}  // namespace mor
