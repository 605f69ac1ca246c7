// Signs of life between the ranks.
#include "distributed/mpi_peers.h"

#include <algorithm>

#include "core/check.h"
#include "distributed/communicator.h"

namespace mor {

namespace {
constexpr MpiPeers::Seconds kBetweenExchanges{1e-3};
constexpr double kSignsPerSilence = 10;
}  // namespace

MpiPeers::MpiPeers(Mpi& mpi, Seconds silence)
    : mpi_(mpi), silence_(silence), peers_(static_cast<size_t>(mpi.size())), last_(std::chrono::steady_clock::now()) {
  for (int32_t rank = 0; rank < mpi.size(); ++rank)
    if (rank != mpi.rank()) receive(rank, peers_[static_cast<size_t>(rank)]);
}

void MpiPeers::receive(int32_t rank, Peer& peer) {
  Message& message = peer.incoming;
  message.request = mpi_.receive(&message.state, sizeof(RankState), rank, kStateTag);
  message.pending = true;
}

void MpiPeers::send(int32_t rank, Peer& peer) {
  Message& message = peer.outgoing;
  message.state = own_;
  message.request = mpi_.send(&message.state, sizeof(RankState), rank, kStateTag);
  message.pending = true;
  peer.told = clock_;
}

void MpiPeers::exchange() {
  const auto now = std::chrono::steady_clock::now();
  const Seconds passed = now - last_;
  if (passed < kBetweenExchanges && !changed_) return;  // It costs as many calls as there are ranks.
  changed_ = false;
  last_ = now;
  const Seconds interval = silence_ / kSignsPerSilence;
  clock_ += std::min(passed, interval);
  for (int32_t rank = 0; rank < mpi_.size(); ++rank) {
    Peer& peer = peers_[static_cast<size_t>(rank)];
    if (rank == mpi_.rank() || peer.lost) continue;
    Message &in = peer.incoming, &out = peer.outgoing;
    if (in.pending && mpi_.done(in.request, rank)) {
      in.pending = false;
      peer.known = in.state;
      peer.heard = clock_;
      if (peer.known.phase != kEnded) receive(rank, peer);
    }
    if (out.pending && mpi_.done(out.request, rank)) out.pending = false;
    const bool news = out.state.phase != own_.phase;
    const bool due = clock_ - peer.told >= interval && own_.phase != kEnded;
    if (!out.pending && (news || due)) send(rank, peer);
    if (peer.known.phase != kEnded && clock_ - peer.heard > silence_) peer.lost = true;
  }
}

void MpiPeers::require_all() const {
  for (size_t rank = 0; rank < peers_.size(); ++rank)
    MOR_CHECK(!peers_[rank].lost, COMMUNICATION_FAILED, "nothing was heard of rank ", rank, " for ", silence_.count(),
              " s: its process has died or stands still, or the network is broken");
}

void MpiPeers::require(int32_t rank, uint64_t operation) const {
  const RankState& known = peers_[static_cast<size_t>(rank)].known;
  if (known.operations >= operation || known.phase <= own_.phase) return;
  MOR_FAIL(COMMUNICATION_FAILED, "rank ", rank, " has left after ", known.operations,
           known.operations == 1 ? " operation" : " operations", ", and this is operation ", operation, kWhyLeft);
}

bool MpiPeers::any_lost() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.lost; });
}

int32_t MpiPeers::gone() const {
  for (size_t rank = 0; rank < peers_.size(); ++rank)
    if (peers_[rank].known.phase > own_.phase) return static_cast<int32_t>(rank);
  return -1;
}

bool MpiPeers::all_ended() const {
  for (size_t rank = 0; rank < peers_.size(); ++rank) {
    const Peer& peer = peers_[rank];
    if (static_cast<int32_t>(rank) == mpi_.rank() || peer.lost) continue;
    if (peer.known.phase != kEnded || peer.outgoing.state.phase != kEnded || peer.outgoing.pending) return false;
  }
  return true;
}

}  // namespace mor
