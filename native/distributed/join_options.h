// JoinOptions: how long ranks wait for each other.
#pragma once

namespace mor {

struct JoinOptions {
  /// How long nothing may be heard of a rank before it counts as lost, in seconds. A rank that computes for long is
  /// heard all the same.
  double silence_seconds = 20;
  /// How long the ranks wait for each other when they start, in seconds.
  double join_seconds = 300;
};

}  // namespace mor
