// Reading in chunks, which the device converts.
#include "checkpoint/read_tensors.h"

#include <algorithm>
#include <memory>

#include "checkpoint/element_chunks.h"
#include "checkpoint/input_file.h"

namespace mor {

namespace {

struct Reading {
  const InputFile* file;
  const TensorLocation* location;
  const CheckpointTensor* into;
};

/// Memory that chunks pass through.
struct Scratch {
  Tensor device;              ///< [kElementChunk] float32
  std::vector<char> stored;   ///< bytes of the file
  std::vector<float> floats;  ///< of float16, which the device does not know
};

void read_elements(Ops& ops, const void* source, FileDType dtype, const Tensor& tensor, int64_t begin, int64_t n,
                   Scratch& scratch) {
  const auto bytes = static_cast<size_t>(n * file_dtype_size(dtype));
  if (dtype != FileDType::F16 && device_dtype(dtype) == tensor.dtype) {
    ops.copy_to_device(element(tensor, begin), source, bytes);
    return;
  }
  if (dtype == FileDType::F16) {
    scratch.floats.resize(static_cast<size_t>(n));
    to_floats(source, dtype, n, scratch.floats.data());
    ops.copy_to_device(scratch.device.data, scratch.floats.data(), scratch.floats.size() * sizeof(float));
  } else {
    ops.copy_to_device(scratch.device.data, source, bytes);
  }
  cast_elements(ops, scratch.device.data, device_dtype(dtype), element(tensor, begin), tensor.dtype, n);
  ops.synchronize();  // the scratch is filled again
}

void read_tensor(Ops& ops, const Reading& reading, Scratch& scratch, const CancelCheck& check) {
  const auto& [file, location, into] = reading;
  const int64_t size = file_dtype_size(location->dtype), heads = location->interleaved_heads;
  const auto read = [&, &file = file](int64_t offset, int64_t bytes) -> const char* {
    scratch.stored.resize(static_cast<size_t>(bytes));
    file->read(offset, bytes, scratch.stored.data());
    return scratch.stored.data();
  };
  std::string other_order;
  if (heads > 0 && !into->parts.empty())
    other_order = reordered(read(location->offset, location->bytes), location->bytes, into->rows, {heads, false});
  for (const NamedTensor& part : into->parts)
    for (int64_t begin = 0; begin < part.tensor.count(); begin += kElementChunk) {
      check();
      const int64_t n = std::min(kElementChunk, part.tensor.count() - begin), first = (part.begin + begin) * size;
      const char* source = heads > 0 ? other_order.data() + first : read(location->offset + first, n * size);
      read_elements(ops, source, location->dtype, part.tensor, begin, n, scratch);
    }
}

}  // namespace

void read_tensors(Ops& ops, const std::vector<CheckpointFile>& files, const TensorTable& into,
                  const CancelCheck& check) {
  std::vector<std::unique_ptr<InputFile>> opened;
  std::vector<Reading> readings;
  for (const CheckpointFile& file : files) {
    opened.push_back(std::make_unique<InputFile>(file.path));
    for (const TensorLocation& location : file.tensors) {
      const auto found = into.find(location.name);
      MOR_CHECK(found != into.end(), CHECKPOINT_INVALID, file.path, ": there is no tensor '", location.name,
                "' to read into");
      const CheckpointTensor& tensor = found->second;
      const int64_t needed = tensor.count * file_dtype_size(location.dtype);
      MOR_CHECK(location.bytes == needed, CHECKPOINT_INVALID, file.path, ": '", location.name, "' has ", location.bytes,
                " bytes, but its shape needs ", needed);
      opened.back()->check_holds(location.offset, location.bytes);
      MOR_CHECK(location.interleaved_heads == 0 || tensor.rows % (2 * location.interleaved_heads) == 0,
                CHECKPOINT_INVALID, file.path, ": '", location.name, "' has ", tensor.rows, " rows, which are not ",
                location.interleaved_heads, " heads of an even width");
      readings.push_back({opened.back().get(), &location, &tensor});
    }
  }
  Arena arena(ops);
  Scratch scratch{arena.vector(DType::float32, kElementChunk, "checkpoint scratch"), {}, {}};
  for (const Reading& reading : readings) read_tensor(ops, reading, scratch, check);
  ops.synchronize();
}

}  // namespace mor
