// The part of CUB that cuda/ops includes, in the host run: a stable sort on the host.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "test/cuda_host/run/capture.h"

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value>
  static cudaError_t SortPairs(void* work, size_t& work_bytes, const Key* keys_in, Key* keys_out,
                               const Value* values_in, Value* values_out, int n, int begin_bit, int end_bit,
                               cudaStream_t stream) {
    constexpr size_t kWorkBytes = 256;
    if (work == nullptr) {
      work_bytes = kWorkBytes;
      return cudaSuccess;
    }
    if (work_bytes < kWorkBytes) return cudaErrorInvalidValue;
    return mor::cuda_host::put(stream, [=] {
      const size_t count = static_cast<size_t>(n);
      std::vector<Key> keys(count), sorted_keys;
      std::vector<Value> values(count), sorted_values;
      cudaMemcpyAsync(keys.data(), keys_in, count * sizeof(Key), cudaMemcpyDeviceToHost, nullptr);
      cudaMemcpyAsync(values.data(), values_in, count * sizeof(Value), cudaMemcpyDeviceToHost, nullptr);
      std::vector<size_t> order(count);
      for (size_t i = 0; i < count; ++i) order[i] = i;
      const auto bits_of = [&](size_t i) {
        return static_cast<uint64_t>(keys[i]) >> begin_bit & ((uint64_t{1} << (end_bit - begin_bit)) - 1);
      };
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bits_of(a) < bits_of(b); });
      for (size_t i : order) {
        sorted_keys.push_back(keys[i]);
        sorted_values.push_back(values[i]);
      }
      cudaMemcpyAsync(keys_out, sorted_keys.data(), count * sizeof(Key), cudaMemcpyHostToDevice, nullptr);
      return cudaMemcpyAsync(values_out, sorted_values.data(), count * sizeof(Value), cudaMemcpyHostToDevice, nullptr);
    });
  }
};

}  // namespace cub
