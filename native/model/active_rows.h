// ActiveRows: the rows that run a recursion, from all rows of a batch down to the selected ones.
#pragma once

#include "model/block.h"

namespace mor {

struct ActiveRows {
  Rows rows;  ///< rows.source: the row of the batch
  /// [count] which row of recursion 1 each row is, and so where SharedKeys holds its key. Null: identity.
  const int32_t* rank = nullptr;
};

/// The rows that a router selected out of some parent rows.
struct Selection {
  int32_t* index = nullptr;     ///< [rows.count] parent rows, in order
  int32_t* start = nullptr;     ///< [sequences + 1]
  uint8_t* selected = nullptr;  ///< [parent count] 0/1
  SelectedRows rows;
};

/// Every row of `sequences` sequences of `length` tokens: row s * length + t is token t of sequence s.
ActiveRows all_rows(const LayerContext& context, int32_t sequences, int32_t length);

/// A selection out of `parent`, still to be filled.
Selection allocate_selection(Arena& arena, const ActiveRows& parent);

/// The selected rows of `parent`. first: the rows of recursion 1; each selected row then sees the keys that its token
/// saw there (RoutingRules::sees_tokens_that_left). Null: each row sees the selected rows of its sequence up to itself.
ActiveRows compact_rows(const LayerContext& context, const ActiveRows& parent, const Selection& selection,
                        const ActiveRows* first);

}  // namespace mor
