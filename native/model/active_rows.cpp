// ActiveRows: the geometry of the rows that run a recursion.
#include "model/active_rows.h"

#include <algorithm>

namespace mor {

ActiveRows all_rows(const LayerContext& context, int32_t sequences, int32_t length) {
  const int32_t count = sequences * length;
  int32_t* position = context.arena.array<int32_t>(count);
  int32_t* visible = context.arena.array<int32_t>(count);
  int32_t* start = context.arena.array<int32_t>(sequences + 1);
  context.ops.equal_rows(sequences, length, start, position, visible);

  ActiveRows all;
  all.rows.count = count;
  all.rows.key_lists = sequences;
  all.rows.max_rows = all.rows.max_keys = length;
  all.rows.position = position;
  all.rows.visible = visible;
  all.rows.start = all.rows.key_start = start;
  return all;
}

Selection allocate_selection(Arena& arena, const ActiveRows& parent) {
  Selection s;
  s.index = arena.array<int32_t>(parent.rows.count);
  s.start = arena.array<int32_t>(parent.rows.key_lists + 1);
  s.selected = arena.array<uint8_t>(parent.rows.count);
  return s;
}

ActiveRows compact_rows(const LayerContext& context, const ActiveRows& parent, const Selection& selection,
                        const ActiveRows* first) {
  Ops& ops = context.ops;
  const int32_t n = selection.rows.count;
  const auto gathered = [&](const int32_t* from) -> const int32_t* {
    if (from == nullptr) return selection.index;
    int32_t* to = context.arena.array<int32_t>(n);
    ops.gather_indices(from, selection.index, n, to);
    return to;
  };
  ActiveRows child;
  child.rows = parent.rows;
  child.rows.count = n;
  child.rows.max_rows = std::min(parent.rows.max_rows, selection.rows.max_rows);
  child.rows.start = selection.start;
  child.rows.source = gathered(parent.rows.source);
  child.rows.position = gathered(parent.rows.position);
  int32_t* visible = context.arena.array<int32_t>(n);
  if (first == nullptr) {
    ops.visible_causal(selection.start, parent.rows.key_lists, n, visible);
    child.rows.key_start = selection.start;
    child.rows.max_keys = child.rows.max_rows;
  } else {
    child.rank = gathered(parent.rank);
    ops.gather_indices(first->rows.visible, child.rank, n, visible);
    child.rows.key_start = first->rows.start;
    child.rows.max_keys = first->rows.max_keys;
    child.rows.slot = child.rank;
  }
  child.rows.visible = visible;
  return child;
}

}  // namespace mor
