// The bytes of checkpoint tensors between files and a device, in chunks. The files' headers are TypeScript's business.
// Must not know of Node, nor which tensors a model or a trainer has.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace mor::binding {

/// Element types of safetensors files.
enum class FileDType : uint8_t { F32, BF16, F16 };

/// Bytes [offset, offset + bytes) of a file.
struct TensorLocation {
  std::string name;
  FileDType dtype = FileDType::F32;
  int64_t offset = 0, bytes = 0;
};
struct CheckpointFile {
  std::string path;
  std::vector<TensorLocation> tensors;
};

/// Called between chunks; throws to give up.
using CancelCheck = std::function<void()>;

/// Reads every tensor of `files` into the one of that name in `into`, rounded as it needs. Names, sizes and the lengths
/// of all files are checked before anything is written. Throws CHECKPOINT_INVALID, CHECKPOINT_MISSING or IO_ERROR.
void read_tensors(Ops& ops, const std::vector<CheckpointFile>& files, const std::vector<NamedTensor>& into,
                  const CancelCheck& cancel_check);

/// Writes `header`, the tensors one after another, each as its dtype (F32 or BF16), and waits for the disk. If anything
/// fails, the partial file is removed. Throws IO_ERROR with the system's reason, INVALID_ARGUMENT for other counts.
void write_tensors(Ops& ops, const std::string& path, const std::vector<uint8_t>& header,
                   const std::vector<Tensor>& tensors, const std::vector<FileDType>& dtypes,
                   const CancelCheck& cancel_check);

/// The tensors of these names, in this order. Throws INVALID_ARGUMENT naming one that is not there.
std::vector<Tensor> tensors_named(const std::vector<NamedTensor>& table, const std::vector<std::string>& names);

}  // namespace mor::binding
