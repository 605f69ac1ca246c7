// MpiPeers: what the ranks tell each other about themselves beside the data: that they live, how far they are, and that
// they leave.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "distributed/mpi.h"

namespace mor {

constexpr int kStateTag = 1, kDataTag = 2;

/// All ranks have the same build of this struct, since they run the same package.
struct RankState {
  uint64_t phase = 0;       ///< grows whenever the rank joins or leaves a communicator: odd while it takes part in one
  uint64_t operations = 0;  ///< that the rank has finished
};
/// The phase of a rank whose process ends.
constexpr uint64_t kEnded = ~uint64_t{0};

/// A rank that nothing is heard of for `silence` is lost: its process has died or was stopped, or the network is
/// broken. A rank that computes for long is not, because its communication thread goes on. Must be used on that thread
/// only.
class MpiPeers {
 public:
  using Seconds = std::chrono::duration<double>;

  MpiPeers(Mpi& mpi, Seconds silence);

  /// What the others are told: by the next exchange if the phase has changed, and otherwise now and then.
  void set_state(const RankState& state) {
    changed_ |= state.phase != own_.phase;
    own_ = state;
  }
  /// Receives and sends what is due. To be called again and again.
  void exchange();
  /// Says that data of this rank have come.
  void heard(int32_t rank) { peers_[static_cast<size_t>(rank)].heard = clock_; }

  /// Throws COMMUNICATION_FAILED if a rank is lost.
  void require_all() const;
  /// Throws COMMUNICATION_FAILED if this rank has left before it finished this operation, counted from 1.
  void require(int32_t rank, uint64_t operation) const;
  bool any_lost() const;
  /// A rank that has left what this one takes part in, or -1.
  int32_t gone() const;
  /// Whether this rank and each other one know of each other that they end, but for those that are lost.
  bool all_ended() const;

 private:
  /// A state on its way.
  struct Message {
    RankState state;
    Mpi::Request request = 0;
    bool pending = false;
  };
  struct Peer {
    RankState known;
    Message incoming, outgoing;
    Seconds heard{0}, told{0};
    bool lost = false;
  };

  void receive(int32_t rank, Peer& peer);
  void send(int32_t rank, Peer& peer);

  Mpi& mpi_;
  const Seconds silence_;
  RankState own_;
  bool changed_ = false;
  std::vector<Peer> peers_;  ///< by rank; this rank's own is unused
  /// Time during which this thread ran, since messages wait for a process that was stopped itself.
  Seconds clock_{0};
  std::chrono::steady_clock::time_point last_;
};

}  // namespace mor
