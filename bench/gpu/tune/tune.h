// Tiles that a kernel could have: each is checked, then timed at the shapes that matter.
#pragma once

#include <algorithm>

#include "bench/gpu/gpu_program.h"
#include "cuda/launch.h"
#include "cuda/tile/bf16.cuh"

namespace mor::bench {

using NamedCases = std::vector<std::pair<std::string, std::function<void()>>>;

/// Cases of matrix products: of training at 2k and 16k rows, and of decoding.
void add_products(const GpuOptions& options, cuda::Stream& stream, NamedCases& cases);
/// Cases of attention over whole sequences, forward and backward.
void add_attention(const GpuOptions& options, cuda::Stream& stream, NamedCases& cases);

/// What a case finds: seconds of each sample by tile, or why it has none.
class TileTimes {
 public:
  explicit TileTimes(double flops) : flops_(flops) {}
  void add(const std::string& tile, const std::vector<double>& seconds) { add_json(tile, json_numbers(seconds)); }
  void refuse(const std::string& tile, const std::string& why) { add_json(tile, json_string(why)); }
  /// As a fact of this name.
  void print(const std::string& name) const {
    print_fact(name, concat("{\"flops\":", flops_, ",\"seconds\":{", tiles_, "}}"));
  }

 private:
  void add_json(const std::string& tile, const std::string& json) {
    tiles_ += (tiles_.empty() ? "" : ",") + json_string(tile) + ":" + json;
  }
  double flops_;
  std::string tiles_;
};

/// Seconds of one call, for each sample; a sample has as many calls as take some milliseconds.
template <class Call>
std::vector<double> time_call(cuda::Stream& stream, int samples, const Call& call) {
  constexpr double kSampleSeconds = 0.005;
  const auto seconds = [&](int count) {
    return stream.seconds([&] {
      for (int i = 0; i < count; ++i) call(i);
    });
  };
  seconds(1);
  const int count = std::max(1, static_cast<int>(kSampleSeconds / seconds(1)));
  std::vector<double> values;
  for (int i = 0; i < samples; ++i) values.push_back(seconds(count) / count);
  return values;
}

/// Fills an array with numbers that are nearly normal.
void fill_random(cuda::Stream& stream, const DeviceArray<bf16>& to, uint32_t seed);

/// The largest |a - b| / (1 + |b|); NaN counts as infinite.
double largest_difference(cuda::Stream& stream, const DeviceArray<bf16>& a, const DeviceArray<bf16>& b);

}  // namespace mor::bench
