// Derived files in chunks.
#include "checkpoint/derived_files.h"

#include <algorithm>
#include <map>
#include <memory>

#include "checkpoint/folder_update.h"
#include "checkpoint/input_file.h"
#include "checkpoint/output_file.h"
#include "core/check.h"
#include "core/rng.h"

namespace mor {

namespace {

constexpr int64_t kChunk = int64_t{1} << 20;  ///< elements that are made at a time
constexpr uint64_t kSeed = 0;                 ///< of normal numbers, so that the same call writes the same file

/// Files that stay open as long as tensors of them are read.
class Sources {
 public:
  const InputFile& of(const std::string& path) {
    std::unique_ptr<InputFile>& file = files_[path];
    if (file == nullptr) file = std::make_unique<InputFile>(path);
    return *file;
  }

 private:
  std::map<std::string, std::unique_ptr<InputFile>> files_;
};

/// For the elements from `begin`, a multiple of the chunk.
void add_normal(const DerivedTensor& tensor, int64_t begin, std::vector<float>& values) {
  const auto deviation = static_cast<float>(tensor.deviation);
  for (size_t i = 0; i < values.size(); i += 2) {
    const Philox4 bits = philox(kSeed, tensor.stream, (static_cast<uint64_t>(begin) + i) / 2);
    float pair[2];
    normal_from_bits(bits.v[0], bits.v[1], &pair[0], &pair[1]);
    for (size_t j = i; j < std::min(i + 2, values.size()); ++j) values[j] += deviation * pair[j - i];
  }
}

/// Elements [begin, begin + n) as bytes of the tensor's type. Adds to `non_finite` how many each source has there that
/// are NaN or infinite.
std::string elements(const DerivedTensor& tensor, Sources& sources, int64_t begin, int64_t n,
                     std::vector<int64_t>& non_finite) {
  std::string stored, bytes;
  const bool as_it_is = tensor.sources.size() == 1 && tensor.sources[0].dtype == tensor.dtype;
  std::vector<float> sum(as_it_is ? 0 : static_cast<size_t>(n)), part(sum.size());
  for (size_t s = 0; s < tensor.sources.size(); ++s) {
    const DerivedTensor::Source& source = tensor.sources[s];
    const int64_t size = file_dtype_size(source.dtype);
    stored.resize(static_cast<size_t>(n * size));
    sources.of(source.path).read(source.offset + begin * size, n * size, stored.data());
    non_finite[s] += count_non_finite(stored.data(), source.dtype, n);
    if (as_it_is) return stored;
    to_floats(stored.data(), source.dtype, n, part.data());
    std::transform(sum.begin(), sum.end(), part.begin(), sum.begin(), std::plus<>());
  }
  if (tensor.sources.size() > 1)
    for (float& value : sum) value /= static_cast<float>(tensor.sources.size());
  if (tensor.deviation > 0) add_normal(tensor, begin, sum);
  if (!tensor.values.empty()) std::copy_n(tensor.values.begin() + begin, n, sum.begin());
  append_rounded(sum, tensor.dtype, tensor.name, bytes);
  return bytes;
}

void write_tensor(const DerivedTensor& tensor, Sources& sources, OutputFile& output, const CancelCheck& check) {
  std::string whole;
  std::vector<int64_t> non_finite(tensor.sources.size());
  for (int64_t begin = 0; begin < tensor.count; begin += kChunk) {
    check();
    const std::string chunk = elements(tensor, sources, begin, std::min(kChunk, tensor.count - begin), non_finite);
    if (tensor.order.heads == 0)
      output.write(chunk);
    else
      whole += chunk;
  }
  for (size_t s = 0; s < non_finite.size(); ++s) {
    const DerivedTensor::Source& source = tensor.sources[s];
    MOR_CHECK(non_finite[s] == 0, CHECKPOINT_INVALID, source.path, ": ", non_finite[s], " of the ", tensor.count,
              " values of ", source.name, " are NaN or infinite, and no model made of them computes anything: give a ",
              "checkpoint whose values are finite, such as one that was saved before its training diverged");
  }
  if (tensor.order.heads > 0)
    output.write(reordered(whole.data(), static_cast<int64_t>(whole.size()), tensor.rows, tensor.order));
  output.write(std::string(static_cast<size_t>(tensor.padding), '\0'));
}

}  // namespace

void write_derived(const std::string& folder, const std::vector<DerivedFile>& files, const CancelCheck& check) {
  FolderUpdate update(folder);
  Sources sources;
  for (const DerivedFile& file : files) {
    OutputFile output(update.path(file.name), OutputFile::Start::empty);
    output.write(file.head);
    for (const DerivedTensor& tensor : file.tensors) write_tensor(tensor, sources, output, check);
    output.sync();
  }
  check();
  update.commit();
}

}  // namespace mor
