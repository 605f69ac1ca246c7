// Sockets of TCP, none of which blocks: every wait is a poll with a deadline.
#include "distributed/tcp_connection.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "distributed/communicator.h"

namespace mor {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int64_t kBetweenChecks = 100;  ///< milliseconds
constexpr int kQuestions = 4;            ///< that are put to a silent peer's machine before it counts as gone

int milliseconds_to(const Deadline& deadline) {
  if (deadline.time == never().time && !deadline.check) return -1;
  const int64_t left = std::chrono::ceil<milliseconds>(deadline.time - steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, deadline.check ? kBetweenChecks : 1 << 30));
}

/// Whether one of the descriptors is ready for `events` before the deadline.
bool wait_for(const std::vector<int>& descriptors, short events, const Deadline& deadline) {
  std::vector<pollfd> all;
  for (const int descriptor : descriptors) all.push_back({descriptor, events, 0});
  for (;;) {
    if (deadline.check) deadline.check();
    const int ready = poll(all.data(), all.size(), milliseconds_to(deadline));
    if (ready > 0) return true;
    if (ready == 0 && steady_clock::now() >= deadline.time) return false;
    MOR_CHECK(ready >= 0 || errno == EINTR, COMMUNICATION_FAILED, "poll: ", std::strerror(errno));
  }
}

struct Addresses {
  addrinfo* first = nullptr;
  std::string error;  ///< empty: none

  Addresses(const char* address, int port, int flags) {
    addrinfo wanted = {};
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = flags | AI_NUMERICSERV;
    const int status = getaddrinfo(address, std::to_string(port).c_str(), &wanted, &first);
    if (status != 0) error = gai_strerror(status);
  }
  ~Addresses() {
    if (first != nullptr) freeaddrinfo(first);
  }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
};

Socket make_socket(const addrinfo& address) {
  return Socket(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol));
}

/// Whether the connection is one to itself: to a port of this machine at which nobody listens, and which the system has
/// chosen as the near end too.
bool is_its_own_peer(const Socket& socket) {
  sockaddr_storage near{}, far{};
  socklen_t near_size = sizeof near, far_size = sizeof far;
  return getsockname(socket.get(), reinterpret_cast<sockaddr*>(&near), &near_size) == 0 &&
         getpeername(socket.get(), reinterpret_cast<sockaddr*>(&far), &far_size) == 0 && near_size == far_size &&
         std::memcmp(&near, &far, near_size) == 0;
}

bool is_loopback(const addrinfo& address) {
  if (address.ai_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
  return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24 == 127;
}

[[noreturn]] void fail_to_listen(const std::string& address, int port, const std::string& reason) {
  MOR_FAIL(COMMUNICATION_FAILED, "rank 0 cannot listen at ", address, ":", port, ": ", reason,
           "; give all ranks an address of rank 0's machine as MASTER_ADDR, and a free port there as MOR_MASTER_PORT");
}

/// A connection to one of the addresses, or none and the error of the last one.
Socket connect_once(const std::string& address, int port, const Deadline& deadline, std::string& error) {
  const Addresses found(address.c_str(), port, 0);
  error = found.error;
  for (const addrinfo* one = found.first; one != nullptr; one = one->ai_next) {
    Socket socket = make_socket(*one);
    int status = socket.get() < 0 ? errno : 0;
    if (status == 0 && connect(socket.get(), one->ai_addr, one->ai_addrlen) != 0) status = errno;
    if (status == EINPROGRESS) {
      socklen_t size = sizeof status;
      status = ETIMEDOUT;
      if (wait_for({socket.get()}, POLLOUT, deadline)) getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &status, &size);
    }
    if (status == 0 && !is_its_own_peer(socket)) return socket;
    error = status == 0 ? "nobody listens there" : std::strerror(status);
  }
  return Socket();
}

}  // namespace

Deadline after(double seconds, std::function<void()> check) {
  const std::chrono::duration<double> span(seconds);
  return {steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(span), std::move(check)};
}

Deadline never() {
  return {steady_clock::time_point::max()};
}

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

TcpConnection::TcpConnection(Socket socket, std::string peer, double silence_seconds)
    : socket_(std::move(socket)), peer_(std::move(peer)) {
  // The system counts in seconds.
  const int interval = std::max(1, static_cast<int>(silence_seconds / kQuestions));
  silence_seconds_ = kQuestions * interval;
  const auto set = [&](int level, int option, int value) {
    setsockopt(socket_.get(), level, option, &value, sizeof value);
  };
  // While nothing is under way, the system asks whether the peer's machine is there. What it sends is a question, too,
  // but it would repeat that for a quarter of an hour: require_answers() looks after it.
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, interval);
  set(IPPROTO_TCP, TCP_KEEPINTVL, interval);
  set(IPPROTO_TCP, TCP_KEEPCNT, kQuestions - 1);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
}

TcpConnection::TcpConnection(const std::string& address, int port, std::string peer, double silence_seconds,
                             double wait_seconds, const std::function<void()>& check) {
  const Deadline deadline = after(wait_seconds, check);
  std::string error;
  for (;;) {
    Socket socket = connect_once(address, port, deadline, error);
    if (socket.get() >= 0) {
      *this = TcpConnection(std::move(socket), std::move(peer), silence_seconds);
      return;
    }
    const auto now = steady_clock::now();
    MOR_CHECK(now < deadline.time, COMMUNICATION_FAILED, peer, " was not there within ", wait_seconds, " s: ", address,
              ":", port, ": ", error,
              "; start all ranks, with MASTER_ADDR an address of rank 0's machine and the same port on all");
    if (check) check();
    std::this_thread::sleep_until(std::min(deadline.time, now + milliseconds(50)));
  }
}

void TcpConnection::move(char* bytes, size_t count, bool out, const Deadline& deadline) const {
  MOR_CHECK(open(), COMMUNICATION_FAILED, "there is no connection to ", peer_);
  const Deadline watched = {deadline.time, [&] {
                              if (deadline.check) deadline.check();
                              require_answers();
                            }};
  while (count > 0) {
    const ssize_t moved =
        out ? ::send(socket_.get(), bytes, count, MSG_NOSIGNAL) : recv(socket_.get(), bytes, count, 0);
    if (moved > 0) {
      bytes += moved;
      count -= static_cast<size_t>(moved);
      continue;
    }
    const bool closed = moved == 0 || errno == ECONNRESET || errno == EPIPE;
    MOR_CHECK(!closed, COMMUNICATION_FAILED, peer_, " has left", kWhyLeft);
    if (errno == EINTR) continue;
    MOR_CHECK(errno == EAGAIN || errno == EWOULDBLOCK, COMMUNICATION_FAILED, "the connection to ", peer_,
              " is broken: ", std::strerror(errno));
    MOR_CHECK(wait_for({socket_.get()}, out ? POLLOUT : POLLIN, watched), COMMUNICATION_FAILED, peer_,
              out ? " does not read what it is sent" : " says nothing");
  }
}

void TcpConnection::send(Kind kind, std::string_view bytes, const Deadline& deadline) const {
  // All ranks have the same byte order: their tensors travel as they are in memory, too.
  const uint64_t count = bytes.size();
  std::string message(1 + sizeof count, static_cast<char>(kind));
  std::memcpy(message.data() + 1, &count, sizeof count);
  message += bytes;
  move(message.data(), message.size(), true, deadline);
}

TcpConnection::Message TcpConnection::receive(const Deadline& deadline, uint64_t most) const {
  char header[1 + sizeof(uint64_t)];
  move(header, sizeof header, false, deadline);
  uint64_t count = 0;
  std::memcpy(&count, header + 1, sizeof count);
  MOR_CHECK(static_cast<uint8_t>(header[0]) <= static_cast<uint8_t>(Kind::failure) && count <= most,
            COMMUNICATION_FAILED, peer_, " sent what is no message of a rank");
  Message message{static_cast<Kind>(header[0]), std::string(count, 0)};
  move(message.bytes.data(), count, false, deadline);
  return message;
}

void TcpConnection::shut() const {
  if (open()) shutdown(socket_.get(), SHUT_RDWR);
}

bool TcpConnection::ended() const {
  pollfd one{socket_.get(), POLLRDHUP, 0};  // which sees the end behind messages that nobody has read yet
  char kind = 0;
  return poll(&one, 1, 0) > 0 ||
         (recv(socket_.get(), &kind, 1, MSG_PEEK) == 1 && static_cast<Kind>(kind) == Kind::failure);
}

void TcpConnection::require_answers() const {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (!open() || getsockopt(socket_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return;
  // The machine of a peer that does not read answers that it has no room. The system asks it ever less often whether it
  // has: only questions without an answer count. (TCP_USER_TIMEOUT gives up such a peer as well.)
  const bool asked = info.tcpi_retransmits > 1 || info.tcpi_probes > 1;
  MOR_CHECK(!asked || info.tcpi_last_ack_recv < silence_seconds_ * 1000, COMMUNICATION_FAILED, "the connection to ",
            peer_, " is broken: its machine has not answered for ", silence_seconds_, " s");
}

Socket listen_at(const std::string& address, int port, bool one_machine) {
  // Where a machine's own name stands for a loopback address, as `localhost` does, other machines know another one.
  const bool keeps_loopback = one_machine || Addresses(address.c_str(), port, AI_NUMERICHOST).first != nullptr;
  const Addresses here(address.c_str(), port, AI_PASSIVE), anywhere(nullptr, port, AI_PASSIVE);
  std::string error = here.error;
  for (const addrinfo* list : {here.first, anywhere.first}) {
    if (here.first == nullptr) break;
    for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
      if (is_loopback(*one) && !keeps_loopback) continue;
      Socket socket = make_socket(*one);
      const int yes = 1;
      if (socket.get() >= 0 && setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
          bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 && listen(socket.get(), SOMAXCONN) == 0)
        return socket;
      const int reason = errno;
      error = std::strerror(reason);
      // The other ranks would take the program that listens there for rank 0.
      if (reason == EADDRINUSE) fail_to_listen(address, port, error);
    }
  }
  fail_to_listen(address, port, error);
}

bool wait_readable(const std::vector<int>& descriptors, const Deadline& deadline) {
  return wait_for(descriptors, POLLIN, deadline);
}

}  // namespace mor
