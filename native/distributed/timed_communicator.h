// TimedCommunicator: another communicator, and how long its caller waits in it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/communicator.h"

namespace mor {

/// On devices that work beside the host, wait() returns at once, and its time is not counted.
class TimedCommunicator final : public Communicator {
 public:
  /// timed: must outlive this.
  explicit TimedCommunicator(Communicator& timed) : timed_(timed) {}

  int32_t rank() const override { return timed_.rank(); }
  int32_t size() const override { return timed_.size(); }
  void abandon() override { timed_.abandon(); }
  void require_present() override { timed_.require_present(); }
  std::vector<std::string> gather(std::string_view bytes) override {
    const Wait wait(seconds);
    return timed_.gather(bytes);
  }
  void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) override {
    timed_.reduce_scatter(values, sum, wire);
  }
  void all_gather(const Tensor& all) override { timed_.all_gather(all); }
  void wait() override {
    const Wait wait(seconds);
    timed_.wait();
  }

  double seconds = 0;  ///< waited since it was set to 0

 private:
  class Wait {
   public:
    explicit Wait(double& seconds) : seconds_(seconds) {}
    ~Wait() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

   private:
    double& seconds_;
    const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  };

  Communicator& timed_;
};

}  // namespace mor
