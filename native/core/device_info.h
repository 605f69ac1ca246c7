// DeviceInfo: what a device is and whether it can be used. C++17, because CUDA code includes this file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/check.h"

namespace mor {

struct DeviceInfo {
  std::string id;    ///< "cpu", "cuda:0"; "cuda" where no GPU can be listed, to say why
  std::string type;  ///< "cpu" or "cuda"
  std::string name;
  bool usable = true;
  ErrorCode code = ErrorCode::INTERNAL;  ///< of an unusable device: the code of the error that make_ops throws
  std::string reason;                    ///< of an unusable device: why, and what to do
  size_t memory_bytes = 0;               ///< of a CPU: no more than the process's control group grants
  int threads = 0;                    ///< CPU only: threads unless told otherwise: the processors that this process may
                                      ///< run on, but no more than its control group grants
  std::string instruction_set;        ///< of a usable CPU: the set that kernels use
  std::vector<std::string> features;  ///< CPU only, those that kernels use, such as "avx512_bf16"
  std::string compute_capability;     ///< GPUs only, "9.0"
};

}  // namespace mor
