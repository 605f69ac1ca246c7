// Rows: the geometry of one packed batch: which rows exist, which sequence each belongs to, at which position, and
// where keys and values lie. CUDA code includes this file, so it must stay C++17.
#pragma once

#include <cstdint>

namespace mor {

/// All pointers are device memory that the struct does not own. A sequence here is the rows that share one list of
/// keys: a training sequence in one recursion, or, in serving, one (request, recursion) pair, so that one batch may
/// hold many requests at many depths (docs/model.md section 5). Its rows follow one another in rising order of
/// position.
struct Rows {
  int32_t count = 0;      ///< packed rows
  int32_t key_lists = 0;  ///< how many lists of keys there are, and so how many sequences
  int32_t max_rows = 0;   ///< most rows that share one list
  int32_t max_keys = 0;   ///< most keys of one list that a row of the batch sees

  const int32_t* start = nullptr;     ///< [key_lists + 1] rows of sequence s are start[s] .. start[s+1]
  const int32_t* source = nullptr;    ///< [count] row of the residual stream that row i is read from; null: row i
  const int32_t* position = nullptr;  ///< [count] position of the token in its text; rotary angles come from it
  const int32_t* visible = nullptr;   ///< [count] the row sees the first so many keys of its sequence, in order of
                                      ///< position. Non-decreasing within a sequence; this is the whole causal mask.

  // Keys of sequence s, in position order, j = 0, 1, …: slot key_start[s] + j where they lie in one run
  // (block_size == 0), else slot block_table[s * blocks_per_list + j / block_size] * block_size + j % block_size.
  const int32_t* key_start = nullptr;    ///< [key_lists]
  const int32_t* block_table = nullptr;  ///< [key_lists, blocks_per_list]
  int32_t block_size = 0;
  int32_t blocks_per_list = 0;

  const int32_t* slot = nullptr;  ///< [count] where the row's own K/V go; null: row i goes to slot i
};

/// How many rows a selection has.
struct SelectedRows {
  int32_t count = 0;     ///< of all sequences
  int32_t max_rows = 0;  ///< of the sequence that has the most
};

}  // namespace mor
