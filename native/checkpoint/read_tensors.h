// Reads tensors of checkpoint files into a device. TypeScript reads the files' headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file_elements.h"
#include "checkpoint/tensor_table.h"
#include "core/cancel_check.h"

namespace mor {

/// Bytes [offset, offset + bytes) of a file: a whole tensor.
struct TensorLocation {
  std::string name;
  FileDType dtype = FileDType::F32;
  int64_t offset = 0, bytes = 0;
  int64_t interleaved_heads = 0;  ///< of a q or k projection in llama.cpp's order of rows; 0: in Hugging Face's
};
struct CheckpointFile {
  std::string path;
  std::vector<TensorLocation> tensors;
};

/// Reads what `into` has of every tensor of `files`, rounded as it needs, and nothing else of them. Names, sizes and
/// the lengths of all files are checked before anything is written. Throws CHECKPOINT_INVALID, CHECKPOINT_MISSING or
/// IO_ERROR.
void read_tensors(Ops& ops, const std::vector<CheckpointFile>& files, const TensorTable& into,
                  const CancelCheck& check);

}  // namespace mor
