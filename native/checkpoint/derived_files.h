// Derived files: tensors that are made of the tensors of other files, without a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file_elements.h"
#include "core/cancel_check.h"

namespace mor {

/// The mean of its sources, element by element, in float32.
struct DerivedTensor {
  std::string name;  ///< for messages
  FileDType dtype = FileDType::F32;
  int64_t count = 0;  ///< elements
  struct Source {
    std::string path;
    std::string name;  ///< of the tensor there, for messages
    FileDType dtype = FileDType::F32;
    int64_t offset = 0;  ///< bytes into the file
  };
  std::vector<Source> sources;  ///< one of the same type is copied as it is; none: the elements are those below
  std::vector<float> values;    ///< [count], or empty: then normal numbers
  double deviation = 0;         ///< standard deviation of the normal numbers; 0: zeros
  uint64_t stream = 0;          ///< of the random numbers
  int64_t rows = 0;             ///< for `order`
  RowOrder order;
  int64_t padding = 0;  ///< zero bytes that follow the tensor in the file
};

struct DerivedFile {
  std::string name;
  std::string head;  ///< the first bytes
  std::vector<DerivedTensor> tensors;
};

/// Writes files into a folder, all or none (FolderUpdate). Of the sources, a few MB or one tensor are in memory at a
/// time. Throws IO_ERROR with the system's reason, CHECKPOINT_MISSING or CHECKPOINT_INVALID for sources that are not
/// there, and CHECKPOINT_INVALID for sources with elements that are NaN or infinite, and as append_rounded.
void write_derived(const std::string& folder, const std::vector<DerivedFile>& files, const CancelCheck& check);

}  // namespace mor
