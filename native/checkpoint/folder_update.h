// FolderUpdate: replaces files of a folder, all or none.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/file_descriptor.h"

namespace mor {

/// Files are written into a new folder beside those they are to replace. Once all of them are on the disk, that folder
/// gets the name ".saved-*", and then the files are renamed. If the process is killed or fails between two renames, the
/// next update of the folder renames the others; so does what opens a checkpoint (lib/unfinished_save.ts).
/// What a process that was killed has left of its new folder is removed by a later update of the same folder: a lock
/// tells it from those in use, on file systems that have locks.
class FolderUpdate {
 public:
  /// Makes the folder if there is none. Every method throws IO_ERROR with the system's reason.
  explicit FolderUpdate(const std::string& folder);
  /// Removes what was written and not put into place, and the folder if it was made for it.
  ~FolderUpdate();
  FolderUpdate(const FolderUpdate&) = delete;
  FolderUpdate& operator=(const FolderUpdate&) = delete;

  /// The name of the new folder in the other one.
  std::string staging() const { return staging_.filename(); }
  /// Where to write the file that is to have this name.
  std::string path(const std::string& name);
  /// Has `commit` remove the file of this name, an index of shards, and the .safetensors files that it names.
  void replaces(const std::string& index);
  /// Puts the files into place and then removes what they replace. Two updates of one folder do not mix: the renames of
  /// one happen without a pause.
  void commit();

 private:
  const std::filesystem::path folder_;
  const std::vector<std::filesystem::path> grown_;  ///< folders in which one was made for folder_
  bool made_folder_;
  bool half_done_ = false;  ///< whether some files are in place and others are not
  std::filesystem::path staging_;
  const FileDescriptor lock_;  ///< of staging_
  std::vector<std::string> names_;
  std::vector<std::string> replaced_indexes_;

  /// Makes staging_ and returns its lock.
  int make_staging();
  void remove_abandoned() const;
  /// Renames what is left of updates whose process was killed.
  void finish_others() const;
  void remove_indexed(const std::string& index) const;
};

}  // namespace mor
