// The checkpoint of a trainer, which all of its ranks save and read together.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/read_tensors.h"
#include "checkpoint/save_files.h"

namespace mor {

/// save_files of a trainer's state and its model's weights. The files are byte for byte those that one rank would write
/// that had it all. Throws COMMUNICATION_FAILED as Trainer::state and Trainer::compare_ranks.
void save_trainer(const Trainer& trainer, const std::string& folder, const std::vector<SavedFile>& files,
                  const CancelCheck& check);

/// Reads a trainer's state: each rank what it keeps. The files may have been written by any number of ranks. What is
/// thrown on one rank is thrown on all, as Ranks::gather says.
void read_trainer(Trainer& trainer, const std::vector<CheckpointFile>& files, int64_t steps_done,
                  const CancelCheck& check);

}  // namespace mor
