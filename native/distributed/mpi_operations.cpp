// Each rank sends its bytes to every other one, and adds up on its own: results depend on no library's choice of order.
#include "distributed/mpi_operations.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace mor {

namespace {

/// Elements of one rank's piece that travel at once: few enough that the pieces of all ranks need some ten MiB.
int64_t slice_of(int32_t ranks) {
  return std::max(int64_t{1} << 14, (int64_t{1} << 21) / ranks);
}

/// sum[i] = pieces[0][i] + pieces[1][i] + …, added in this order. `sum` may be one of the pieces.
template <class T>
void add_pieces(const std::vector<const T*>& pieces, float* sum, int64_t n) {
  constexpr int64_t kBlock = 1024;  // stays in the first cache
  float block[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    for (int64_t i = 0; i < count; ++i) block[i] = static_cast<float>(pieces[0][begin + i]);
    for (size_t p = 1; p < pieces.size(); ++p)
      for (int64_t i = 0; i < count; ++i) block[i] += static_cast<float>(pieces[p][begin + i]);
    std::memcpy(sum + begin, block, static_cast<size_t>(count) * sizeof(float));
  }
}

/// One slice of every rank's piece. values: of rank 0's slice; the next rank's lies n elements later.
template <class T>
void reduce_slice(MpiExchange& exchange, float* values, int64_t n, float* sum, int64_t count) {
  const int32_t ranks = exchange.size(), own = exchange.rank();
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  const auto of = [&](std::vector<char>& memory, int32_t rank) {
    return reinterpret_cast<T*>(memory.data() + static_cast<size_t>(rank) * bytes);
  };
  // float32 is sent from where it lies. Of bfloat16, this rank's own values are rounded as those that travel, so that
  // all ranks' values count alike.
  const auto given = [&](int32_t rank) {
    if constexpr (std::is_same_v<T, float>)
      return values + rank * n;
    else
      return of(exchange.outgoing, rank);
  };
  exchange.incoming.resize(static_cast<size_t>(ranks) * bytes);
  if constexpr (!std::is_same_v<T, float>) {
    exchange.outgoing.resize(static_cast<size_t>(ranks) * bytes);
    for (int32_t rank = 0; rank < ranks; ++rank)
      for (int64_t i = 0; i < count; ++i) given(rank)[i] = T(values[rank * n + i]);
  }
  std::vector<Stream> streams;
  for (const int32_t peer : exchange.others()) {
    streams.push_back({peer, reinterpret_cast<char*>(given(peer)), bytes, false});
    streams.push_back({peer, reinterpret_cast<char*>(of(exchange.incoming, peer)), bytes, true});
  }
  exchange.transfer(streams);
  std::vector<const T*> pieces;
  for (int32_t rank = 0; rank < ranks; ++rank) pieces.push_back(rank == own ? given(own) : of(exchange.incoming, rank));
  add_pieces(pieces, sum, count);
}

}  // namespace

std::vector<std::string> mpi_gather(MpiExchange& exchange, std::string_view bytes) {
  const std::vector<uint64_t> sizes = exchange.begin("gather", bytes.size(), false);
  exchange.outgoing.assign(bytes.begin(), bytes.end());
  std::vector<size_t> begins = {0};
  for (const uint64_t size : sizes) begins.push_back(begins.back() + size);
  exchange.incoming.resize(begins.back());
  const auto begin = [&](int32_t rank) { return begins[static_cast<size_t>(rank)]; };
  std::vector<Stream> streams;
  for (const int32_t peer : exchange.others()) {
    streams.push_back({peer, exchange.outgoing.data(), bytes.size(), false});
    streams.push_back({peer, exchange.incoming.data() + begin(peer), sizes[static_cast<size_t>(peer)], true});
  }
  exchange.transfer(streams);
  std::vector<std::string> all;
  for (int32_t rank = 0; rank < exchange.size(); ++rank)
    all.push_back(rank == exchange.rank()
                      ? std::string(bytes)
                      : std::string(exchange.incoming.data() + begin(rank), sizes[static_cast<size_t>(rank)]));
  return all;
}

void mpi_reduce_scatter(MpiExchange& exchange, const Tensor& values, const Tensor& sum, DType wire) {
  const int64_t n = sum.count(), slice = slice_of(exchange.size());
  exchange.begin(concat("reduce_scatter in ", dtype_name(wire)), static_cast<uint64_t>(values.count()) * sizeof(float),
                 true);
  const auto reduce = wire == DType::bfloat16 ? reduce_slice<bfloat16> : reduce_slice<float>;
  for (int64_t begin = 0; begin < n; begin += slice)
    reduce(exchange, values.as<float>() + begin, n, sum.as<float>() + begin, std::min(slice, n - begin));
}

void mpi_all_gather(MpiExchange& exchange, const Tensor& all) {
  const size_t bytes = static_cast<size_t>(all.count()) * dtype_size(all.dtype);
  exchange.begin(concat("all_gather of ", dtype_name(all.dtype)), bytes, true);
  const size_t piece = bytes / static_cast<size_t>(exchange.size());
  char* data = static_cast<char*>(all.data);
  std::vector<Stream> streams;
  for (const int32_t peer : exchange.others()) {
    streams.push_back({peer, data + static_cast<size_t>(exchange.rank()) * piece, piece, false});
    streams.push_back({peer, data + static_cast<size_t>(peer) * piece, piece, true});
  }
  exchange.transfer(streams);
}

}  // namespace mor
