// NativeRanks of lib/native/ranks.ts.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <string>

#include "binding/call.h"
#include "binding/convert.h"
#include "binding/object_wrap.h"
#include "distributed/communicator.h"

namespace mor::binding {

class ModelTrainer;
struct JoinedRanks;

/// This process among the ranks that a launcher started. A trainer shares them and calls them on the thread
/// of its model. As long as that model lives, gathers run there too, so that all calls have the order in which
/// JavaScript made them; otherwise on a thread that has no model. All calls end when the ranks are disposed, and when
/// the environment ends, even if other ranks never make theirs.
class NativeRanks final : public ObjectWrap<NativeRanks> {
 public:
  static void define(Napi::Env env);
  /// launcher(): { name, rank, size, localRank }, or null.
  static Napi::Value launcher(const Napi::CallbackInfo& info);
  /// joinRanks(options, signal): Promise<NativeRanks>.
  static Napi::Value join(const Napi::CallbackInfo& info);
  /// The ranks behind an argument. Throws INVALID_ARGUMENT if it is anything else, DISPOSED if they are no more.
  static NativeRanks& of(const Input& input);

  explicit NativeRanks(const Napi::CallbackInfo& info);
  ~NativeRanks() override;

  /// Null if there is one rank only.
  const std::shared_ptr<HostRanks>& host() const;
  /// Throws COMMUNICATION_FAILED if the ranks cannot train on this device.
  void require_device(const std::string& device) const;
  /// Whether a trainer works with them. The calls of two would mix in another order on each rank.
  bool has_trainer() const;
  void set_trainer(const std::shared_ptr<ModelTrainer>& trainer, const std::shared_ptr<ModelThread>& thread);

 private:
  Napi::Value rank(const Napi::CallbackInfo& info);
  Napi::Value size(const Napi::CallbackInfo& info);
  Napi::Value gather(const Napi::CallbackInfo& info);
  Napi::Value fail(const Napi::CallbackInfo& info);
  Napi::Value require_device(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
  /// Posts a call that gathers the texts that `work` gives on each rank.
  Napi::Value gather(const Napi::CallbackInfo& info, std::function<std::string()> work);

  std::shared_ptr<JoinedRanks> joined_;
  std::weak_ptr<ModelTrainer> trainer_;          ///< the last one
  std::shared_ptr<ModelThread> trainer_thread_;  ///< of its model
};

}  // namespace mor::binding
