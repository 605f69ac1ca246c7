// The rows that run a recursion: all rows of a batch, or those that are still active (docs/model.md sections 3 to 5).
#pragma once

#include "model/block.h"

namespace mor {

struct ActiveRows {
  Rows rows;  ///< rows.source: each row's row of the batch
  /// [count] each row's index among the rows of recursion 1, which is the slot of its keys in the shared cache. Null:
  /// identity.
  const int32_t* rank = nullptr;
};

/// A subset of some parent rows.
struct Selection {
  int32_t* index = nullptr;     ///< [count] parent rows, in order
  int32_t* start = nullptr;     ///< [sequences + 1]
  uint8_t* selected = nullptr;  ///< [parent count] 0/1
  int32_t count = 0;
};

/// Uninitialised device integers from the arena.
int32_t* allocate_integers(Arena& arena, int64_t n);

/// Every row of `sequences` sequences of `length` tokens: row s * length + t is token t of sequence s.
ActiveRows all_rows(const LayerContext& context, int32_t sequences, int32_t length);

/// Allocates a selection out of `parent`.
Selection allocate_selection(Arena& arena, const ActiveRows& parent);

/// The selected rows of `parent`. first: the rows of recursion 1; each selected row then sees the keys that its token
/// saw there (RoutingRules::sees_tokens_that_left). Null: each row sees the selected rows of its sequence up to itself.
ActiveRows compact_rows(const LayerContext& context, const ActiveRows& parent, const Selection& selection,
                        const ActiveRows* first);

}  // namespace mor
