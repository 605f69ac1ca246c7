// A trainer's tables and ranks, given to what reads and writes files.
#include "checkpoint/trainer_checkpoint.h"

namespace mor {

void save_trainer(const Trainer& trainer, const std::string& folder, const std::vector<SavedFile>& files,
                  const CancelCheck& check) {
  const TensorTable table = checkpoint_table(trainer);
  trainer.compare_ranks(RankCall::save);
  save_files(trainer.model().ops(), folder, files, table, trainer.steps_done(), trainer.ranks(), check);
}

void read_trainer(Trainer& trainer, const std::vector<CheckpointFile>& files, int64_t steps_done,
                  const CancelCheck& check) {
  trainer.ranks().gather(RankCall::read, [&] {
    read_tensors(trainer.model().ops(), files, state_table(trainer), check);
    trainer.set_steps_done(steps_done);
    return Numbers{};
  });
}

}  // namespace mor
