// The bytes of checkpoint tensors between files and a device. TypeScript reads and makes the files' headers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "binding/file_elements.h"
#include "model/parameters.h"

namespace mor::binding {

/// Bytes [offset, offset + bytes) of a file.
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

/// Called before every chunk; what it throws ends the work.
using CancelCheck = std::function<void()>;

/// Reads every tensor of `files` into the one of that name in `into`, rounded as it needs. Names, sizes and the lengths
/// of all files are checked before anything is written. Throws CHECKPOINT_INVALID, CHECKPOINT_MISSING or IO_ERROR.
void read_tensors(Ops& ops, const std::vector<CheckpointFile>& files, const std::vector<NamedTensor>& into,
                  const CancelCheck& check);

/// A file to write: the bytes of `head`, then tensors one after another, each as its dtype (F32 or BF16).
struct SavedFile {
  std::string name;
  std::vector<std::string> head;  ///< pieces; between two of them stands the number of optimizer steps done
  struct Part {
    std::string tensor;  ///< its name
    FileDType dtype;
  };
  std::vector<Part> tensors;
  std::string replaces;  ///< an index that it takes the place of (FolderUpdate::replaces); empty: of none
};

/// Writes files into a folder, all or none (FolderUpdate). table: tensors that may be named. Throws IO_ERROR with the
/// system's reason, and INVALID_ARGUMENT for a name that is not in the table.
void save_files(Ops& ops, const std::string& folder, const std::vector<SavedFile>& files,
                const std::vector<NamedTensor>& table, int64_t steps_done, const CancelCheck& check);

}  // namespace mor::binding
