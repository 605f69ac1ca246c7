// TMA: maps as the driver would make them, and copies that are done early or late.
#include "test/cuda_host/run/tensor_copy.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <string>

#include "test/cuda_host/include/cuda.h"
#include "test/cuda_host/run/cluster.h"
#include "test/cuda_host/run/mbarrier.h"
#include "test/cuda_host/run/threads.h"

namespace mor::cuda_host {

namespace {

constexpr uint64_t kMark = 0x70616d726f736e65;  // in every map
constexpr int kMostDimensions = 3, kRowBytes = 128, kElementBytes = 2, kAlignment = 1024;

/// A map of bf16 with a swizzle of 128 bytes. Dimension 0 is that of the columns.
struct Map {
  uint64_t mark;
  const char* data;
  int64_t size[kMostDimensions], stride[kMostDimensions];  ///< strides in bytes
  int box[kMostDimensions];
  int dimensions;

  int rows() const { return box[1] * box[2]; }
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));

struct Copy {
  const Block* block;  ///< whose shared memory it writes
  uint8_t* to;
  Map map;
  int at[kMostDimensions];
  mbarriers::Use use;

  size_t bytes() const { return static_cast<size_t>(map.rows()) * kRowBytes; }
  /// Calls body(row of the box, its first element in memory, elements that exist) for every row of the box.
  template <class Body>
  void for_each_row(const Body& body) const {
    const int64_t columns = std::clamp<int64_t>(map.size[0] - at[0], 0, map.box[0]);
    for (int row = 0; row < map.rows(); ++row) {
      const int64_t i = at[1] + row % map.box[1], slice = at[2] + row / map.box[1];
      const bool exists = i >= 0 && i < map.size[1] && slice >= 0 && slice < map.size[2];
      body(row, map.data + i * map.stride[1] + slice * map.stride[2] + int64_t{at[0]} * kElementBytes,
           exists ? columns : 0);
    }
  }
  void run() const {
    if (block->running == 0)
      throw KernelError("block " + name_of(block->index) + " has ended before a tensor_copy_load to its shared memory");
    for_each_row([&](int row, const char* from, int64_t count) {
      for (int chunk = 0; chunk < kRowBytes / 16; ++chunk) {
        uint8_t* place = to + row * kRowBytes + (chunk ^ (row % 8)) * 16;
        const int64_t bytes = std::clamp<int64_t>(count * kElementBytes - chunk * 16, 0, 16);
        std::memset(place, 0, 16);
        std::memcpy(place, from + chunk * 16, static_cast<size_t>(bytes));
      }
    });
    mbarriers::arrive_bytes(use, static_cast<int64_t>(bytes()));
  }
};

std::deque<Copy> pending;
std::minstd_rand dice;
bool youngest_first = false;

/// A copy that is not begun yet.
Copy copy_of(void* to, const void* map, const int* at, int dimensions, const char* operation) {
  require_wait(operation);
  Copy copy{nullptr, static_cast<uint8_t*>(to), {}, {}, {}};
  std::memcpy(&copy.map, map, sizeof copy.map);
  if (copy.map.mark != kMark) fail(std::string(operation) + ": this is no tensor map");
  if (copy.map.dimensions != dimensions)
    fail(std::string(operation) + ": " + std::to_string(dimensions) + " indices for a map of " +
         std::to_string(copy.map.dimensions) + " dimensions");
  const uint64_t address = shared_address(to);
  if (address % kAlignment != 0) fail(std::string(operation) + ": the address is no multiple of 1024");
  at_shared_address(address, copy.bytes(), operation);
  std::copy_n(at, dimensions, copy.at);
  if (copy.at[0] < 0) fail(std::string(operation) + ": the host run has no boxes that begin before the first column");
  return copy;
}

/// To the block of this rank.
void begin(int rank, Copy copy, uint64_t* mbarrier, const char* operation) {
  const bool remote = rank != running().block->rank;
  copy.block = &grid().blocks[static_cast<size_t>(rank)];
  copy.to = static_cast<uint8_t*>(clusters::place_in(rank, copy.to, operation));
  copy.use = mbarriers::begin_copy(
      static_cast<uint64_t*>(remote ? clusters::place_in(rank, mbarrier, operation) : static_cast<void*>(mbarrier)));
  race::Moment moment;
  moment.cluster = running().moment.cluster;
  moment.agent = race::mbarrier_agent(copy.use.number);
  moment.epoch = mbarriers::epoch_of(copy.use);
  if (remote) clusters::use(rank, moment.agent, moment.epoch);
  if (race::watching()) {
    moment.clock = race::with_itself(running().moment);
    race::access_by(moment, copy.to, copy.bytes(), race::Kind::write);
    copy.for_each_row([&](int, const char* from, int64_t count) {
      race::access_by(moment, from, static_cast<size_t>(count) * kElementBytes, race::Kind::read);
    });
  }
  std::memset(copy.to, 0xff, copy.bytes());
  if (dice() % 2 == 0)
    copy.run();
  else
    pending.push_back(copy);
}

}  // namespace

void tensor_copy_load(void* to, const void* map, const int* at, int dimensions, uint64_t* mbarrier) {
  begin(running().block->rank, copy_of(to, map, at, dimensions, "tensor_copy_load"), mbarrier, "tensor_copy_load");
}

void tensor_copy_multicast(void* to, const void* map, const int* at, int dimensions, uint64_t* mbarrier,
                           unsigned blocks) {
  constexpr const char* kOperation = "tensor_copy_multicast";
  const Copy copy = copy_of(to, map, at, dimensions, kOperation);
  if (blocks == 0 || blocks >> grid().cluster_blocks != 0)
    fail("tensor_copy_multicast: the cluster has " + std::to_string(grid().cluster_blocks) +
         " blocks, and the mask is " + std::to_string(blocks));
  for (int rank = 0; rank < grid().cluster_blocks; ++rank)
    if ((blocks >> rank & 1) != 0) begin(rank, copy, mbarrier, kOperation);
}

void fence_async_proxy() {
  race::fence(running().moment);
}

namespace tensor_copies {

void begin_cluster() {
  pending.clear();
  youngest_first = !youngest_first;
}

void end_cluster() {
  if (!pending.empty()) throw KernelError("a block has ended before a tensor_copy_load that it began");
}

bool do_one() {
  if (pending.empty()) return false;
  const Copy copy = youngest_first ? pending.back() : pending.front();
  if (youngest_first)
    pending.pop_back();
  else
    pending.pop_front();
  copy.run();
  return true;
}

}  // namespace tensor_copies

}  // namespace mor::cuda_host

using namespace mor::cuda_host;

namespace {

CUresult encode(CUtensorMap* to, CUtensorMapDataType type, cuuint32_t dimensions, void* data, const cuuint64_t* sizes,
                const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* steps,
                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                CUtensorMapFloatOOBfill fill) {
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      swizzle != CU_TENSOR_MAP_SWIZZLE_128B || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || dimensions < 2 ||
      dimensions > kMostDimensions)
    return CUDA_ERROR_NOT_SUPPORTED;  // by the host run
  if (reinterpret_cast<uintptr_t>(to) % 64 != 0 || reinterpret_cast<uintptr_t>(data) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  Map map{kMark, static_cast<const char*>(data), {1, 1, 1}, {}, {1, 1, 1}, static_cast<int>(dimensions)};
  for (cuuint32_t d = 0; d < dimensions; ++d) {
    if (sizes[d] == 0 || sizes[d] > uint64_t{1} << 32 || box[d] == 0 || box[d] > 256 || steps[d] != 1)
      return CUDA_ERROR_INVALID_VALUE;
    if (d > 0 && (strides[d - 1] % 16 != 0 || strides[d - 1] >= uint64_t{1} << 40)) return CUDA_ERROR_INVALID_VALUE;
    map.size[d] = static_cast<int64_t>(sizes[d]);
    map.stride[d] = d == 0 ? kElementBytes : static_cast<int64_t>(strides[d - 1]);
    map.box[d] = static_cast<int>(box[d]);
  }
  if (box[0] * kElementBytes != kRowBytes) return CUDA_ERROR_NOT_SUPPORTED;  // narrower boxes
  std::memset(static_cast<void*>(to), 0, sizeof *to);
  std::memcpy(static_cast<void*>(to), &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  const bool known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&encode) : nullptr;
  *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
