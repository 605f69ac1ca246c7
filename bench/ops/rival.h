// cuBLASLt, if the machine has it. It is opened when the program runs, so that nothing of it is needed to build.
#pragma once

#include <memory>

#include "bench/ops/case.h"

namespace mor::bench {

class CublasLt {
 public:
  /// Null if no libcublasLt is found, or it does not start. stream: a cudaStream_t.
  static std::unique_ptr<CublasLt> open(void* stream, Ops& ops);
  ~CublasLt();

  /// Computes the product on operands of its own: one call for each of the algorithms, at most eight, that its
  /// heuristic suggests and that compute it, the likely fastest first.
  std::vector<Run> make(const Product& product, Buffers& buffers);

 private:
  struct Library;
  CublasLt(std::unique_ptr<Library> library, void* stream, Ops& ops);
  std::unique_ptr<Library> library_;
  void* stream_;
  Ops& ops_;
  void* workspace_;
};

}  // namespace mor::bench
