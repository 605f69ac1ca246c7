// Saving: all ranks agree on the files, each writes its elements at their places, and rank 0 puts the files into place.
#include "checkpoint/save_files.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "checkpoint/element_chunks.h"
#include "checkpoint/folder_update.h"
#include "checkpoint/output_file.h"

namespace mor {

namespace fs = std::filesystem;

namespace {

/// A file with the place of everything in it.
struct Layout {
  std::string name, head;
  struct Placed {
    const CheckpointTensor* tensor;
    FileDType dtype;
    int64_t offset;  ///< bytes
  };
  std::vector<Placed> tensors;
  int64_t bytes = 0;
};

Layout layout_of(const SavedFile& file, const TensorTable& table, int64_t steps_done) {
  Layout layout{file.name, {}, {}, 0};
  for (size_t i = 0; i < file.head.size(); ++i) layout.head += (i > 0 ? std::to_string(steps_done) : "") + file.head[i];
  layout.bytes = static_cast<int64_t>(layout.head.size());
  for (const auto& [name, dtype] : file.tensors) {
    const auto found = table.find(name);
    MOR_CHECK(found != table.end(), INVALID_ARGUMENT, "there is no tensor '", name, "' to write");
    layout.tensors.push_back({&found->second, dtype, layout.bytes});
    layout.bytes += found->second.count * file_dtype_size(dtype);
  }
  return layout;
}

/// What must be the same on all ranks.
std::string summary_of(const std::vector<Layout>& layouts, int64_t steps_done) {
  std::string summary = concat("step ", steps_done);
  for (const Layout& layout : layouts)
    summary += concat(", ", layout.name, " of ", layout.tensors.size(), " tensors and ", layout.bytes, " bytes");
  return summary;
}

/// The folder in which rank 0 has made the files. told: on every rank, that folder's name, a line break, and the
/// summary.
std::string agreed_folder(const std::vector<std::string>& told) {
  const auto summary = [&](size_t rank) { return told[rank].substr(told[rank].find('\n') + 1); };
  for (size_t rank = 1; rank < told.size(); ++rank)
    MOR_CHECK(summary(rank) == summary(0), INVALID_ARGUMENT, "ranks save different checkpoints: ", summary(0),
              " on rank 0, but ", summary(rank), " on rank ", rank,
              "; give all ranks the same model, options and checkpoint");
  return told[0].substr(0, told[0].find('\n'));
}

void check_shared(const fs::path& staging) {
  std::error_code error;
  const bool there = fs::exists(staging, error);
  if (error) fail_io("cannot look for " + staging.string(), error.value());
  MOR_CHECK(there, IO_ERROR, staging.string(),
            " is not there, though rank 0 has just made it in the folder that it saves into; give all ranks the same "
            "folder, of a file system that they share");
}

void write_elements(Ops& ops, const Tensor& tensor, FileDType dtype, const Tensor& scratch, OutputFile& file,
                    const CancelCheck& check) {
  std::string host;
  for (int64_t begin = 0; begin < tensor.count(); begin += kElementChunk) {
    check();
    const int64_t n = std::min(kElementChunk, tensor.count() - begin);
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

/// What this rank has of all files; returns how many bytes that was.
int64_t write_own(Ops& ops, const std::vector<Layout>& layouts, const fs::path& staging, bool heads,
                  const CancelCheck& check) {
  Arena arena(ops);
  const Tensor scratch = arena.vector(DType::float32, kElementChunk, "checkpoint scratch");
  int64_t written = 0;
  for (const Layout& layout : layouts) {
    OutputFile output(staging / layout.name, OutputFile::Start::as_it_is);
    if (heads) output.write(layout.head);
    if (heads) written += static_cast<int64_t>(layout.head.size());
    for (const auto& [tensor, dtype, offset] : layout.tensors)
      for (const NamedTensor& part : tensor->parts) {
        output.seek(offset + part.begin * file_dtype_size(dtype));
        write_elements(ops, part.tensor, dtype, scratch, output, check);
        written += part.tensor.count() * file_dtype_size(dtype);
      }
    output.sync();
  }
  return written;
}

}  // namespace

void save_files(Ops& ops, const std::string& folder, const std::vector<SavedFile>& files, const TensorTable& table,
                int64_t steps_done, const Ranks& ranks, const CancelCheck& check) {
  std::vector<Layout> layouts;
  std::optional<FolderUpdate> update;  // of rank 0
  const std::vector<std::string> told = ranks.gather_bytes(RankCall::save, [&] {
    check();
    for (const SavedFile& file : files) layouts.push_back(layout_of(file, table, steps_done));
    if (ranks.rank() == 0) {
      update.emplace(folder);
      for (size_t i = 0; i < files.size(); ++i) {
        OutputFile output(update->path(files[i].name), OutputFile::Start::empty);
        // A network file system may fill up the last page that it knows of a file with zeros, and so overwrite what
        // another machine has written there. So all know the size before they write.
        if (ranks.size() > 1) output.resize(layouts[i].bytes);
        if (!files[i].replaces.empty()) update->replaces(files[i].replaces);
      }
    }
    return (update ? update->staging() : "") + '\n' + summary_of(layouts, steps_done);
  });
  const fs::path staging = fs::path(folder) / agreed_folder(told);
  const std::vector<Numbers> written = ranks.gather(RankCall::save, [&] {
    check_shared(staging);
    return Numbers{static_cast<double>(write_own(ops, layouts, staging, ranks.rank() == 0, check))};
  });
  int64_t bytes = 0;
  for (const Layout& layout : layouts) bytes += layout.bytes;
  const auto sum = static_cast<int64_t>(sum_of(written)[0]);
  MOR_CHECK(sum == bytes, INTERNAL, "the ranks wrote ", sum, " bytes of a checkpoint of ", bytes);
  ranks.gather(RankCall::save, [&] {
    if (update) update->commit();
    update.reset();  // its folder is gone before the others hear that all is done
    return Numbers{};
  });
}

}  // namespace mor
