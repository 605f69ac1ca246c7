// Checkpoint tensors in chunks: files are mapped to be read, a host buffer is filled to be written, the device
// converts.
#include "binding/checkpoint_io.h"

#include <cstring>
#include <memory>
#include <unordered_map>

#include "binding/folder_update.h"
#include "binding/output_file.h"
#include "core/mapped_file.h"

namespace mor::binding {

namespace {

constexpr int64_t kChunk = int64_t{1} << 20;  ///< elements that are read or written at a time
constexpr int64_t kColumns = 1024;  ///< a chunk is cast as rows of so many elements, which the device's threads share

/// The type in which the device is given a file's elements; it has no float16.
DType device_dtype(FileDType dtype) {
  return dtype == FileDType::BF16 ? DType::bfloat16 : DType::float32;
}

/// Elements [begin, begin + n) of a contiguous tensor.
void* element(const Tensor& tensor, int64_t begin) {
  return static_cast<char*>(tensor.data) + begin * static_cast<int64_t>(dtype_size(tensor.dtype));
}

void cast_elements(Ops& ops, void* from, DType from_dtype, void* to, DType to_dtype, int64_t n) {
  const auto part = [&](int64_t begin, int64_t rows, int64_t columns) {
    const auto view = [&](void* data, DType dtype) {
      return make_tensor(static_cast<char*>(data) + begin * static_cast<int64_t>(dtype_size(dtype)), dtype, rows,
                         columns, "checkpoint");
    };
    if (rows > 0 && columns > 0) ops.cast(view(from, from_dtype), view(to, to_dtype));
  };
  part(0, n / kColumns, kColumns);
  part(n / kColumns * kColumns, 1, n % kColumns);
}

struct Reading {
  const MappedFile* file;
  const TensorLocation* location;
  const Tensor* tensor;
};

void read_tensor(Ops& ops, const Reading& reading, const Tensor& scratch, std::vector<float>& floats,
                 const CancelCheck& check) {
  const FileDType dtype = reading.location->dtype;
  const Tensor& tensor = *reading.tensor;
  const bool as_it_is = dtype != FileDType::F16 && device_dtype(dtype) == tensor.dtype;
  const int64_t size = file_dtype_size(dtype), offset = reading.location->offset,
                heads = reading.location->interleaved_heads;
  std::string other_order;
  if (heads > 0) {
    const int64_t bytes = tensor.count() * size;
    const uint8_t* stored = reading.file->at(static_cast<size_t>(offset), static_cast<size_t>(bytes));
    other_order = reordered(stored, bytes, tensor.rows(), {heads, false});
  }
  for (int64_t begin = 0; begin < tensor.count(); begin += kChunk) {
    check();
    const int64_t n = std::min(kChunk, tensor.count() - begin);
    const auto from = static_cast<size_t>(offset + begin * size), bytes = static_cast<size_t>(n * size);
    const void* source = reading.file->at(from, bytes);
    if (heads > 0) source = other_order.data() + begin * size;
    if (as_it_is) {
      ops.copy_to_device(element(tensor, begin), source, bytes);
    } else {
      if (dtype == FileDType::F16) {
        floats.resize(static_cast<size_t>(n));
        to_floats(source, dtype, n, floats.data());
        ops.copy_to_device(scratch.data, floats.data(), floats.size() * sizeof(float));
      } else {
        ops.copy_to_device(scratch.data, source, bytes);
      }
      cast_elements(ops, scratch.data, device_dtype(dtype), element(tensor, begin), tensor.dtype, n);
      ops.synchronize();  // the scratch is filled again
    }
    // What has been read is in the weights now; both together would take twice their memory.
    reading.file->forget(from, bytes);
  }
}

void write_tensor(Ops& ops, const Tensor& tensor, FileDType dtype, const Tensor& scratch, OutputFile& file,
                  const CancelCheck& check) {
  std::string host;
  for (int64_t begin = 0; begin < tensor.count(); begin += kChunk) {
    check();
    const int64_t n = std::min(kChunk, tensor.count() - begin);
    void* source = element(tensor, begin);
    if (tensor.dtype != device_dtype(dtype)) {
      cast_elements(ops, source, tensor.dtype, scratch.data, device_dtype(dtype), n);
      source = scratch.data;
    }
    host.resize(static_cast<size_t>(n * file_dtype_size(dtype)));
    ops.copy_to_host(host.data(), source, host.size());
    file.write(host);
  }
}

using NameTable = std::unordered_map<std::string, const Tensor*>;

NameTable name_table(const std::vector<NamedTensor>& tensors) {
  NameTable table;
  for (const NamedTensor& named : tensors) table.emplace(named.name, &named.tensor);
  return table;
}

}  // namespace

void read_tensors(Ops& ops, const std::vector<CheckpointFile>& files, const std::vector<NamedTensor>& into,
                  const CancelCheck& check) {
  const NameTable table = name_table(into);
  std::vector<std::unique_ptr<MappedFile>> mapped;
  std::vector<Reading> readings;
  for (const CheckpointFile& file : files) {
    mapped.push_back(std::make_unique<MappedFile>(file.path));
    for (const TensorLocation& location : file.tensors) {
      const auto found = table.find(location.name);
      MOR_CHECK(found != table.end(), CHECKPOINT_INVALID, file.path, ": there is no tensor '", location.name,
                "' to read into");
      const int64_t needed = found->second->count() * file_dtype_size(location.dtype);
      MOR_CHECK(location.bytes == needed, CHECKPOINT_INVALID, file.path, ": '", location.name, "' has ", location.bytes,
                " bytes, but its shape needs ", needed);
      mapped.back()->at(static_cast<size_t>(location.offset), static_cast<size_t>(location.bytes));
      const int64_t rows = found->second->rows();
      MOR_CHECK(location.interleaved_heads == 0 || rows % (2 * location.interleaved_heads) == 0, CHECKPOINT_INVALID,
                file.path, ": '", location.name, "' has ", rows, " rows, which are not ", location.interleaved_heads,
                " heads of an even width");
      readings.push_back({mapped.back().get(), &location, found->second});
    }
  }
  Arena arena(ops);
  const Tensor scratch = arena.vector(DType::float32, kChunk, "checkpoint scratch");
  std::vector<float> floats;
  for (const Reading& reading : readings) read_tensor(ops, reading, scratch, floats, check);
  ops.synchronize();
}

void save_files(Ops& ops, const std::string& folder, const std::vector<SavedFile>& files,
                const std::vector<NamedTensor>& table, int64_t steps_done, const CancelCheck& check) {
  const NameTable by_name = name_table(table);
  FolderUpdate update(folder);
  Arena arena(ops);
  const Tensor scratch = arena.vector(DType::float32, kChunk, "checkpoint scratch");
  for (const SavedFile& file : files) {
    OutputFile output(update.path(file.name));
    for (size_t i = 0; i < file.head.size(); ++i) {
      if (i > 0) output.write(std::to_string(steps_done));
      output.write(file.head[i]);
    }
    for (const auto& [name, dtype] : file.tensors) {
      const auto found = by_name.find(name);
      MOR_CHECK(found != by_name.end(), INVALID_ARGUMENT, "there is no tensor '", name, "' to write");
      write_tensor(ops, *found->second, dtype, scratch, output, check);
    }
    output.sync();
    if (!file.replaces.empty()) update.replaces(file.replaces);
  }
  update.commit();
}

}  // namespace mor::binding
