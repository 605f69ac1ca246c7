// TcpConnection: messages between two ranks over TCP.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mor {

/// Until when a call waits.
struct Deadline {
  std::chrono::steady_clock::time_point time;
  std::function<void()> check{};  ///< is called again and again while it waits, and ends that by throwing
};
/// So many seconds from now.
Deadline after(double seconds, std::function<void()> check = {});
Deadline never();

/// A file descriptor that is closed with the object.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// Every call throws COMMUNICATION_FAILED, naming the peer, if the connection is closed or broken, or if the deadline
/// passes. A peer whose machine is gone without a word is noticed within silence_seconds.
class TcpConnection {
 public:
  enum class Kind : uint8_t { data, failure };
  struct Message {
    Kind kind;
    std::string bytes;
  };

  TcpConnection() = default;
  /// socket: connected. peer: its name in errors.
  TcpConnection(Socket socket, std::string peer, double silence_seconds);
  /// Connects to who listens there, and tries again for wait_seconds as long as nobody does. Throws
  /// COMMUNICATION_FAILED with the last error of the system.
  TcpConnection(const std::string& address, int port, std::string peer, double silence_seconds, double wait_seconds,
                const std::function<void()>& check = {});

  bool open() const { return socket_.get() >= 0; }
  int descriptor() const { return socket_.get(); }
  void name_peer(std::string peer) { peer_ = std::move(peer); }

  void send(Kind kind, std::string_view bytes, const Deadline& deadline) const;
  /// most: a longer message is refused.
  Message receive(const Deadline& deadline, uint64_t most = uint64_t{1} << 32) const;
  /// Both ends find the connection closed from now on. From any thread.
  void shut() const;
  /// Whether the peer has closed the connection, or its next message is a failure. Does not wait.
  bool ended() const;
  /// Throws if the peer's machine answers nothing; one that only does not read is waited for. Does not wait.
  void require_answers() const;

 private:
  void move(char* bytes, size_t count, bool out, const Deadline& deadline) const;
  Socket socket_;
  std::string peer_;
  double silence_seconds_ = 0;
};

/// A socket that listens at this address, or, if it is not one of this machine's, at every one; so also if it is a name
/// for a loopback address, unless all ranks are on one machine. Throws COMMUNICATION_FAILED.
Socket listen_at(const std::string& address, int port, bool one_machine = false);
/// Waits until one of these can be read, or until the deadline; returns whether one can.
bool wait_readable(const std::vector<int>& descriptors, const Deadline& deadline);

}  // namespace mor
