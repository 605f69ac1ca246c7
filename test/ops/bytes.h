// Bytes in device memory, for the 0/1 marks of a selection.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ops.h"

namespace mor::test {

class Bytes {
 public:
  Bytes(Ops& ops, const std::vector<uint8_t>& values) : ops_(ops), n_(values.size()) {
    data_ = static_cast<uint8_t*>(ops_.allocate(n_ + 1));
    ops_.copy_to_device(data_, values.data(), n_);
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { ops_.release(data_, n_ + 1); }
  uint8_t* data() const { return data_; }
  std::vector<uint8_t> get() const {
    std::vector<uint8_t> values(n_);
    ops_.copy_to_host(values.data(), data_, n_);
    return values;
  }

 private:
  Ops& ops_;
  size_t n_;
  uint8_t* data_;
};

}  // namespace mor::test
