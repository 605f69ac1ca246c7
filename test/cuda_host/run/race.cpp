// The race detector keeps, for every byte, its last write and two of the reads since then.
#include "test/cuda_host/run/race.h"

#include <sanitizer/common_interface_defs.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <unordered_map>
#include <utility>

extern "C" char __data_start, _end;  // from the linker: the program's variables, which include static shared memory

namespace mor::cuda_host::race {

namespace {

constexpr uintptr_t kPageBytes = 1024;
constexpr size_t kMostPages = 1 << 14;
constexpr uint64_t kMostClusters = (1 << 21) - 1;

/// Clusters are numbered through all grids, so that records of an earlier grid need not be erased. Cluster 0: no
/// access.
struct Record {
  uint64_t cluster : 21, agent : 12, epoch : 30, atomic : 1;
};
static_assert(kMostInCluster * (kMostThreads + kMostMbarriers + kMostWarpgroups) < 1 << 12);

struct Byte {
  /// reads: by two agents, of two warps if two have read; the later one first.
  Record write{}, reads[2]{};
  bool operator==(const Byte& other) const { return std::memcmp(this, &other, sizeof other) == 0; }
};
using Page = std::array<Byte, kPageBytes>;

struct Watch {
  bool on = false;
  const Moment* running = nullptr;
  uint64_t first_cluster = 1, end_cluster = 1;  ///< numbers of the grid's clusters
  uint32_t threads = 0;                         ///< of a cluster
  struct Range {
    uintptr_t begin = 0, bytes = 0;
  };
  std::array<Range, kMostInCluster> shared_memory;  ///< of the cluster's blocks
  bool (*is_device)(const void*) = nullptr;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
  struct Recent {
    uintptr_t index = 0;
    Page* page = nullptr;
  };
  std::array<Recent, 64> recent;  ///< pages by their index modulo its size
  Race found;

  Page& page(uintptr_t index);
  bool is_shared(uintptr_t address) const;
  /// A thread itself makes its accesses; copies and products make theirs at any time, also beside each other.
  bool is_thread(uint64_t agent) const { return agent < threads; }
  /// The warp of a thread; copies and products count as warps of their own.
  uint64_t warp_of(const Record& r) const {
    return is_thread(r.agent) ? r.agent / 32 : kMostInCluster * kMostThreads + r.agent;
  }
  bool ordered(const Record& earlier, bool write, const Moment& now, bool shared) const;
  void report(const char* what, bool shared, const Moment& now, const void* where);
  void check(const Record& earlier, bool write, const Moment& now, Kind kind, bool shared, const char* what,
             const void* where);
  void access(Byte& byte, const Record& record, const Moment& now, Kind kind, bool shared, const void* where);
  void access(uintptr_t address, size_t bytes, Kind kind, const Moment& now, const void* where);
};

Watch& watch() {
  static Watch instance;
  return instance;
}

Page& Watch::page(uintptr_t index) {
  Recent& last = recent[index % recent.size()];
  if (last.page == nullptr || last.index != index) {
    std::unique_ptr<Page>& entry = pages[index];
    if (entry == nullptr) entry = std::make_unique<Page>();
    last = {index, entry.get()};
  }
  return *last.page;
}

bool Watch::is_shared(uintptr_t address) const {
  for (const Range& range : shared_memory)
    if (address - range.begin < range.bytes) return true;
  return (address >= reinterpret_cast<uintptr_t>(&__data_start) && address < reinterpret_cast<uintptr_t>(&_end));
}

bool Watch::ordered(const Record& earlier, bool write, const Moment& now, bool shared) const {
  if (earlier.cluster < first_cluster) return true;
  if (earlier.cluster != first_cluster + now.cluster) return shared;
  const bool by_thread = is_thread(earlier.agent);
  if (by_thread && earlier.agent == now.agent) return true;
  if (now.clock == nullptr) return false;
  const bool needs_fence = write && by_thread && !is_thread(now.agent);
  return (needs_fence ? now.clock->fenced : now.clock->seen)[earlier.agent] >= earlier.epoch;
}

void Watch::report(const char* what, bool shared, const Moment& now, const void* where) {
  found.what = std::string(what) + (shared ? " in shared memory" : " in global memory");
  char text[512] = "";
  __sanitizer_symbolize_pc(const_cast<void*>(where), "%f %s:%l", text, sizeof text);
  found.where = text;
  found.later = {now.cluster, now.agent};
}

void Watch::check(const Record& earlier, bool write, const Moment& now, Kind kind, bool shared, const char* what,
                  const void* where) {
  if (found || (earlier.atomic && kind == Kind::atomic) || ordered(earlier, write, now, shared)) return;
  report(what, shared, now, where);
  found.earlier = {static_cast<uint32_t>(earlier.cluster - first_cluster), static_cast<uint32_t>(earlier.agent)};
}

void Watch::access(Byte& byte, const Record& record, const Moment& now, Kind kind, bool shared, const void* where) {
  if (kind != Kind::read) {
    check(byte.write, true, now, kind, shared, "a write of what another thread writes", where);
    for (const Record& read : byte.reads)
      check(read, false, now, kind, shared, "a write of what another thread reads", where);
    byte = {record, {}};
    return;
  }
  check(byte.write, true, now, kind, shared, "a read of what another thread writes", where);
  Record &young = byte.reads[0], &old = byte.reads[1];
  const bool same_agent = young.cluster == record.cluster && young.agent == record.agent;
  const bool same_warp = young.cluster == record.cluster && warp_of(young) == warp_of(record);
  const bool old_is_of_another_warp =
      old.cluster >= first_cluster && (old.cluster != record.cluster || warp_of(old) != warp_of(record));
  if (!same_agent && !(same_warp && old_is_of_another_warp && !ordered(old, false, now, shared))) old = young;
  young = record;
}

void Watch::access(uintptr_t address, size_t bytes, Kind kind, const Moment& now, const void* where) {
  const uintptr_t stack_begin = reinterpret_cast<uintptr_t>(now.stack_begin);
  if (address - stack_begin < static_cast<uintptr_t>(now.stack_end - now.stack_begin)) return;
  const bool shared = is_shared(address);
  if (!now.waited && !found && is_device != nullptr && is_device(reinterpret_cast<const void*>(address))) {
    report(kind == Kind::read ? "a read" : "a write", false, now, where);
    found.what += " before wait_for_earlier_kernels";
    found.earlier = found.later;
  }
  const Record record{first_cluster + now.cluster, now.agent, now.epoch, kind == Kind::atomic};
  while (bytes > 0) {
    const size_t first = address % kPageBytes, here = std::min(bytes, kPageBytes - first);
    Byte* byte = &page(address / kPageBytes)[first];
    // The bytes of a number mostly have one history, so that what holds of one of them holds of the next.
    Byte before{}, after{};
    for (size_t i = 0; i < here; ++i, ++byte) {
      if (i == 0 || !(*byte == before)) {
        before = after = *byte;
        access(after, record, now, kind, shared, where);
      }
      *byte = after;
    }
    address += here;
    bytes -= here;
  }
}

}  // namespace

void begin_grid(uint64_t clusters, int cluster_blocks, int threads) {
  Watch& w = watch();
  set_agents(threads, cluster_blocks);
  w.threads = static_cast<uint32_t>(threads * cluster_blocks);
  w.shared_memory = {};
  if (clusters >= kMostClusters)
    throw std::length_error("the grid has more clusters than the race detector can number");
  w.first_cluster = w.end_cluster;
  if (w.first_cluster + clusters > kMostClusters || w.pages.size() > kMostPages) {
    w.pages.clear();
    w.recent = {};
    w.first_cluster = 1;
  }
  w.end_cluster = w.first_cluster + clusters;
}

void run(const Moment* moment) {
  watch().running = moment;
}

void set_shared_memory(int rank, const void* begin, size_t bytes) {
  watch().shared_memory[static_cast<size_t>(rank)] = {reinterpret_cast<uintptr_t>(begin), bytes};
}

void set_device_memory(bool (*holds)(const void*)) {
  watch().is_device = holds;
}

bool watching() {
  return watch().on;
}

void access(const void* address, size_t bytes, Kind kind) {
  Watch& w = watch();
  if (w.on && w.running != nullptr)
    w.access(reinterpret_cast<uintptr_t>(address), bytes, kind, *w.running, __builtin_return_address(0));
}

void access_by(const Moment& agent, const void* address, size_t bytes, Kind kind) {
  if (watch().on) watch().access(reinterpret_cast<uintptr_t>(address), bytes, kind, agent, __builtin_return_address(0));
}

Race take() {
  return std::exchange(watch().found, {});
}

}  // namespace mor::cuda_host::race

// ---- the functions that instrumented code calls, with ThreadSanitizer's names and meanings; its library is not linked
namespace race = mor::cuda_host::race;

#define MOR_ACCESS(name, bytes, kind)                                                     \
  extern "C" void __tsan_##name(void* address) {                                          \
    race::Watch& w = race::watch();                                                       \
    if (w.running != nullptr)                                                             \
      w.access(reinterpret_cast<uintptr_t>(address), bytes, race::Kind::kind, *w.running, \
               __builtin_return_address(0));                                              \
  }
#define MOR_ACCESSES(bytes)                      \
  MOR_ACCESS(read##bytes, bytes, read)           \
  MOR_ACCESS(write##bytes, bytes, write)         \
  MOR_ACCESS(unaligned_read##bytes, bytes, read) \
  MOR_ACCESS(unaligned_write##bytes, bytes, write)
MOR_ACCESSES(1)
MOR_ACCESSES(2)
MOR_ACCESSES(4)
MOR_ACCESSES(8)
MOR_ACCESSES(16)
extern "C" void __tsan_read_range(void* address, size_t bytes) {
  race::access(address, bytes, race::Kind::read);
}
extern "C" void __tsan_write_range(void* address, size_t bytes) {
  race::access(address, bytes, race::Kind::write);
}
extern "C" void __tsan_init() {
  race::watch().on = true;
}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
/// Static variables of functions call this one, and the standard library's reference counts the next; kernels do not.
extern "C" uint8_t __tsan_atomic8_load(const volatile uint8_t* address, int) {
  return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
extern "C" uint32_t __tsan_atomic32_fetch_add(volatile uint32_t* address, uint32_t value, int) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
