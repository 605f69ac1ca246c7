// Which rows run a recursion: from all rows of a batch down to those still active (docs/model.md sections 3 to 5).
// Must not know how they were chosen.
#pragma once

#include "model/block.h"

namespace mor {

struct ActiveRows {
  Rows rows;  ///< rows.source: the row of the batch
  /// [count] which row of recursion 1 each one is: where the shared cache holds its keys. Null: identity.
  const int32_t* rank = nullptr;
};

/// A chosen subset of some parent rows.
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

/// Room for a selection out of `parent`.
Selection allocate_selection(Arena& arena, const ActiveRows& parent);

/// The selected rows of `parent`. first: the rows of recursion 1, of which each row sees those that its token saw there
/// (RoutingRules::sees_tokens_that_left); null: each row sees the selected rows of its sequence up to itself.
ActiveRows compact_rows(const LayerContext& context, const ActiveRows& parent, const Selection& selection,
                        const ActiveRows* first);

}  // namespace mor
