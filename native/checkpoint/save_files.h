// Saves tensors of a device as checkpoint files. TypeScript makes the files' headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file_elements.h"
#include "checkpoint/tensor_table.h"
#include "core/cancel_check.h"

namespace mor {

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

/// Writes files into a folder, all or none (FolderUpdate). table: tensors that may be named. Of several ranks, all call
/// this with one folder that they share, the same files, and each element of these in the table of exactly one rank.
/// Each writes what it has, at the same time as the others; the heads are those of rank 0. What is thrown on one rank
/// is thrown on all, as Ranks::gather says, and nothing of the save is left, unless it is thrown after all renames.
/// Throws IO_ERROR with the system's reason, also where a rank does not see the files that rank 0 has made, and
/// INVALID_ARGUMENT for a name that is not in the table, or ranks that save different files.
void save_files(Ops& ops, const std::string& folder, const std::vector<SavedFile>& files, const TensorTable& table,
                int64_t steps_done, const Ranks& ranks, const CancelCheck& check);

}  // namespace mor
