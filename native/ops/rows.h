// Rows: the geometry of one packed batch: which rows exist, whose they are, at which position, where their K/V lie.
// C++17 and device-clean. Must not know how rows were chosen (router, scheduler) or what is computed on them.
#pragma once

#include <cstdint>

namespace mor {

/// All pointers are device memory and owned by somebody else. Rows of one sequence stand together, in rising position
/// order. A "sequence" is whatever shares one list of keys: a training sequence at one depth, or, in serving, one
/// (request, recursion) pair, so that one batch may hold many requests at many depths (docs/model.md section 5).
struct Rows {
  int32_t count = 0;      ///< packed rows
  int32_t key_lists = 0;  ///< lists of keys: what the order below calls a sequence
  int32_t max_rows = 0;   ///< most rows of one sequence
  int32_t max_keys = 0;   ///< most keys of one sequence (of those that any row here sees)

  const int32_t* start = nullptr;     ///< [key_lists + 1] rows of sequence s are start[s] .. start[s+1]
  const int32_t* source = nullptr;    ///< [count] row of the stream they are read from; null: row i is row i
  const int32_t* position = nullptr;  ///< [count] position in the original sequence; rotary angles come from it
  const int32_t* visible =
      nullptr;  ///< [count] how many keys the row sees: a prefix of its sequence's keys in position
                ///< order. Non-decreasing within a sequence; this is the whole causal mask.

  // Keys of sequence s, in position order, j = 0, 1, …: slot key_start[s] + j where they lie in one run
  // (block_size == 0), else slot block_table[s * blocks_per_sequence + j / block_size] * block_size + j % block_size.
  const int32_t* key_start = nullptr;    ///< [key_lists]
  const int32_t* block_table = nullptr;  ///< [key_lists, blocks_per_sequence]
  int32_t block_size = 0;
  int32_t blocks_per_sequence = 0;

  const int32_t* slot = nullptr;  ///< [count] where the row's own K/V go; null: row i goes to slot i
};

}  // namespace mor
