// wgmma: the products that a warpgroup has begun, and what they read from shared memory when they are computed.
#include "test/cuda_host/run/wgmma.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "test/cuda_host/run/threads.h"

namespace mor::cuda_host {

namespace {

constexpr int kThreads = 128, kRows = 64, kDepth = 16, kMostColumns = 256;

/// The sums of unfinished products in the registers of all threads.
struct Sums {
  std::array<float*, kThreads> d{};
  std::vector<float> values;  ///< [kRows, columns]
  int unfinished = 0;
};

struct Product {
  Wgmma call;
  uint64_t group;
  std::shared_ptr<Sums> sums;
  int callers = 0;
  uint32_t a[kThreads][4]{};  ///< if it is in registers
  std::vector<race::ClockPointer> clocks;
};

struct Warpgroup {
  std::deque<Product> products;  ///< not finished, oldest first
  uint64_t finished = 0;         ///< products before these
  std::vector<std::shared_ptr<Sums>> sums;
  std::array<uint64_t, kThreads> called{}, committed{};  ///< products and groups of each thread
  std::array<bool, kThreads> arrived{};                  ///< wgmma_arrive in this group
  int waiting = 0;
  unsigned pending = 0;  ///< of the threads that wait
};

/// Of a cluster, those of one block after the other.
std::array<Warpgroup, race::kMostInCluster * race::kMostWarpgroups> warpgroups;

/// A factor in shared memory, by its descriptor.
class Factor {
 public:
  Factor(uint64_t descriptor, bool transposed)
      : start_((descriptor & 0x3fff) << 4),
        panel_((descriptor >> 16 & 0x3fff) << 4),
        group_((descriptor >> 32 & 0x3fff) << 4),
        transposed_(transposed) {
    constexpr uint64_t kSwizzle128 = 1, kUnused = uint64_t{3} << 14 | uint64_t{3} << 30 | uint64_t{3} << 46;
    if (descriptor >> 62 != kSwizzle128) fail("wgmma: the descriptor's swizzle is not that of 128 bytes");
    if ((descriptor >> 49 & 0x1fff) != 0 || (descriptor & kUnused) != 0)
      fail("wgmma: the descriptor has bits that must be 0");
    const uint64_t in_row = start_ % 128, pattern = 1024;
    if (start_ % pattern != in_row || in_row % 32 != 0 || (transposed && in_row != 0))
      fail("wgmma: the factor begins " + std::to_string(start_ % pattern) + " bytes behind a multiple of 1024");
    if (group_ % pattern != 0 || (transposed && panel_ % pattern != 0))
      fail("wgmma: the descriptor's distances are no multiples of 1024 bytes");
  }

  /// The chunk of 16 bytes with the 8 elements from (row, k) on; they are neighbours along the depth or, transposed,
  /// along the rows.
  const uint8_t* chunk(int row, int k) const {
    const auto r = static_cast<uint64_t>(row), d = static_cast<uint64_t>(k);
    const uint64_t place = start_ + (transposed_ ? r / 64 * panel_ + d / 8 * group_ + d % 8 * 128 + r % 64 * 2
                                                 : r / 8 * group_ + r % 8 * 128 + d * 2);
    return at_shared_address(place ^ (place >> 7 & 7) << 4, 16, "wgmma");
  }
  /// Calls body(row, k, chunk) for all chunks of so many rows.
  template <class Body>
  void for_each_chunk(int rows, const Body& body) const {
    for (int row = 0; row < rows; row += transposed_ ? 8 : 1)
      for (int k = 0; k < kDepth; k += transposed_ ? 1 : 8) body(row, k, chunk(row, k));
  }
  /// to [kDepth, rows].
  void load(float* to, int rows) const {
    for_each_chunk(rows, [&](int row, int k, const uint8_t* from) {
      for (int i = 0; i < 8; ++i) {
        uint16_t bits;
        std::memcpy(&bits, from + 2 * i, sizeof bits);
        to[(transposed_ ? k : k + i) * rows + (transposed_ ? row + i : row)] =
            __uint_as_float(static_cast<uint32_t>(bits) << 16);
      }
    });
  }

 private:
  uint64_t start_, panel_, group_;
  bool transposed_;
};

/// Where element i of a thread lies in d.
size_t place_of(int thread, int i, int columns) {
  const int lane = thread % 32, row = thread / 32 * 16 + lane / 4 + i / 2 % 2 * 8;
  return static_cast<size_t>(row * columns + i / 4 * 8 + lane % 4 * 2 + i % 2);
}

/// The factor a of 64 rows from the registers of all threads: to [kDepth, kRows].
void load_registers(float* to, const uint32_t (&a)[kThreads][4]) {
  for (int thread = 0; thread < kThreads; ++thread)
    for (int i = 0; i < 8; ++i) {
      const int lane = thread % 32, row = thread / 32 * 16 + lane / 4 + i / 2 % 2 * 8;
      const int k = i / 4 * 8 + lane % 4 * 2 + i % 2;
      to[k * kRows + row] = __uint_as_float(a[thread][i / 2] >> (16 * (i % 2)) << 16);
    }
}

void compute(const Product& p) {
  static float a[kDepth * kRows], b[kDepth * kMostColumns];
  const int columns = p.call.columns;
  if (p.call.a == 0)
    load_registers(a, p.a);
  else
    Factor(p.call.a, p.call.a_transposed).load(a, kRows);
  Factor(p.call.b, p.call.b_transposed).load(b, columns);
  float* sums = p.sums->values.data();
  if (!p.call.add) std::fill(p.sums->values.begin(), p.sums->values.end(), 0.0f);
  for (int row = 0; row < kRows; ++row)
    for (int k = 0; k < kDepth; ++k) {
      const float left = a[k * kRows + row];
      const float* right = b + k * columns;
      float* to = sums + row * columns;
#pragma GCC ivdep
      for (int column = 0; column < columns; ++column) to[column] += left * right[column];
    }
}

bool untouched(const float* d, int count) {
  return std::all_of(d, d + count, [](float x) { return __float_as_uint(x) == 0xffffffffu; });
}

int number_in_warpgroup() {
  if (running().number / kThreads >= grid().block_threads / kThreads)
    fail("wgmma: the thread is in no whole warpgroup");
  return running().number % kThreads;
}

int number_of_warpgroup() {
  return running().block->rank * race::kMostWarpgroups + running().number / kThreads;
}

Warpgroup& warpgroup() {
  return warpgroups[static_cast<size_t>(number_of_warpgroup())];
}

uint32_t agent() {
  return race::warpgroup_agent(number_of_warpgroup());
}

/// Takes the running thread's part of d, or finds that it was taken for an earlier product.
void give_sums(Warpgroup& w, Product& p, int thread, float* d) {
  const size_t t = static_cast<size_t>(thread);
  const int count = p.call.columns / 2;
  std::shared_ptr<Sums> taken;
  for (const auto& s : w.sums)
    if (s->d[t] == d) taken = s;
  if (p.sums == nullptr) {
    p.sums = taken != nullptr ? taken : w.sums.emplace_back(std::make_shared<Sums>());
    p.sums->values.resize(static_cast<size_t>(kRows * p.call.columns));
    ++p.sums->unfinished;
  }
  Sums& sums = *p.sums;
  if (sums.d[t] != nullptr ? sums.d[t] != d : taken != nullptr)
    fail("wgmma: the threads of a warpgroup give different sums");
  if (sums.values.size() != static_cast<size_t>(kRows * p.call.columns))
    fail("wgmma: an unfinished product has the same sums and another number of columns");
  if (sums.d[t] == d) {
    if (!untouched(d, count)) fail("wgmma: the sums of an unfinished product were written");
    return;
  }
  sums.d[t] = d;
  for (int i = 0; i < count; ++i) sums.values[place_of(thread, i, p.call.columns)] = d[i];
  std::memset(static_cast<void*>(d), 0xff, static_cast<size_t>(count) * sizeof(float));
}

void take_sums(const Sums& sums, int columns) {
  for (int thread = 0; thread < kThreads; ++thread) {
    float* d = sums.d[static_cast<size_t>(thread)];
    if (!untouched(d, columns / 2)) fail("wgmma: the sums of an unfinished product were written");
    for (int i = 0; i < columns / 2; ++i) d[i] = sums.values[place_of(thread, i, columns)];
  }
}

/// What the product will read from now on.
void report_reads(const Product& p) {
  race::Moment moment;
  moment.cluster = running().moment.cluster;
  moment.agent = agent();
  moment.epoch = static_cast<uint32_t>(p.group) + 1;
  if (race::watching()) moment.clock = race::common(p.clocks);
  const auto read = [&](int, int, const uint8_t* chunk) { race::access_by(moment, chunk, 16, race::Kind::read); };
  if (p.call.a != 0) Factor(p.call.a, p.call.a_transposed).for_each_chunk(kRows, read);
  Factor(p.call.b, p.call.b_transposed).for_each_chunk(p.call.columns, read);
}

/// Finishes the products of the groups before this one.
void finish(Warpgroup& w, uint64_t groups) {
  for (; !w.products.empty() && w.products.front().group < groups; w.products.pop_front(), ++w.finished) {
    const Product& p = w.products.front();
    if (p.callers < kThreads) fail("wgmma: not all threads of the warpgroup have called it");
    compute(p);
    if (--p.sums->unfinished > 0) continue;
    take_sums(*p.sums, p.call.columns);
    w.sums.erase(std::find(w.sums.begin(), w.sums.end(), p.sums));
  }
}

}  // namespace

void wgmma_arrive() {
  warpgroup().arrived[static_cast<size_t>(number_in_warpgroup())] = true;
}

void wgmma(const Wgmma& call, float* d, const uint32_t* a) {
  const int thread = number_in_warpgroup();
  const auto t = static_cast<size_t>(thread);
  Warpgroup& w = warpgroup();
  if (!w.arrived[t]) fail("wgmma: there was no wgmma_arrive before the first product of a group");
  const uint64_t index = w.called[t]++ - w.finished;
  if (index == w.products.size()) {
    Product& p = w.products.emplace_back();
    p.call = call;
    p.group = w.committed[t];
  }
  Product& p = w.products[index];
  if (p.group != w.committed[t] || p.call.columns != call.columns || p.call.a != call.a || p.call.b != call.b ||
      p.call.a_transposed != call.a_transposed || p.call.b_transposed != call.b_transposed || p.call.add != call.add)
    fail("wgmma: the threads of a warpgroup begin different products");
  give_sums(w, p, thread, d);
  if (a != nullptr) std::copy_n(a, 4, p.a[t]);
  if (race::watching()) {
    const race::ClockPointer& clock = running().moment.clock;
    if (std::find(p.clocks.begin(), p.clocks.end(), clock) == p.clocks.end()) p.clocks.push_back(clock);
  }
  if (++p.callers == kThreads) report_reads(p);
}

void wgmma_commit() {
  const auto t = static_cast<size_t>(number_in_warpgroup());
  ++warpgroup().committed[t];
  warpgroup().arrived[t] = false;
}

void wgmma_wait(unsigned pending) {
  const auto t = static_cast<size_t>(number_in_warpgroup());
  Warpgroup& w = warpgroup();
  if (w.waiting == 0) w.pending = pending;
  if (w.pending != pending) fail("wgmma_wait: the threads of a warpgroup wait for different groups");
  if (++w.waiting < kThreads) return wait_for(&w, "wgmma_wait");
  const uint64_t groups = w.committed[t] - std::min<uint64_t>(w.committed[t], pending);
  finish(w, groups);
  w.waiting = 0;
  race::Gather gather;
  gather.add(agent(), static_cast<uint32_t>(groups));
  const race::ClockPointer clock = gather.take();
  race::see(running().moment, clock);
  wake(&w, clock);
}

namespace products {

void begin_cluster() {
  for (Warpgroup& w : warpgroups) w = {};
}

void end_cluster() {
  for (const Warpgroup& w : warpgroups)
    if (!w.products.empty()) throw KernelError("a block has ended before a wgmma_wait for products that it began");
}

}  // namespace products

}  // namespace mor::cuda_host
