// Tests of TCP connections whose peer does not read, or is gone without a word: in a network of the test's own, which
// it cuts.
#include "distributed/tcp_connection.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <future>
#include <thread>

#include "test/error_message.h"

namespace mor::test {
namespace {

using Kind = TcpConnection::Kind;
using std::chrono::steady_clock;

constexpr double kSilence = 4;       ///< seconds, the least that counts
constexpr size_t kMuch = 64u << 20;  ///< bytes, more than the buffers of both ends take

double seconds_since(steady_clock::time_point start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

/// Whether it could be done, which takes rights.
bool set_loopback(bool up) {
  const Socket socket(::socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = {};
  std::snprintf(request.ifr_name, sizeof request.ifr_name, "lo");
  request.ifr_flags = static_cast<short>(up ? IFF_UP | IFF_LOOPBACK | IFF_RUNNING : IFF_LOOPBACK);
  return ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0;
}
/// Whether this process has a network of its own now, with nothing but a loopback interface.
bool leave_network() {
  return (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) && set_loopback(true);
}

struct Pair {
  TcpConnection near, far;
};
Pair connect_pair(int port) {
  const Socket listener = listen_at("127.0.0.1", port);
  Pair pair;
  pair.near = TcpConnection("127.0.0.1", port, "rank 1", kSilence, 10);
  pair.far = TcpConnection(Socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK)), "rank 0", kSilence);
  return pair;
}

/// What the call throws, and that it takes about the silence that is allowed.
void expect_broken(const std::function<void()>& call) {
  const auto start = steady_clock::now();
  const std::string error = message_of(call, ErrorCode::COMMUNICATION_FAILED);
  EXPECT_EQ(error.find("the connection to rank 1 is broken: "), 0u) << error;
  EXPECT_GT(seconds_since(start), kSilence / 2);
  EXPECT_LT(seconds_since(start), 3 * kSilence);
}

/// Runs the body in a process with a network of its own; without the right to have one, the test is skipped.
void in_own_network(const std::function<void()>& body) {
  constexpr int kNoNetwork = 77;
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (!leave_network()) _exit(kNoNetwork);
    try {
      body();
    } catch (const std::exception& error) {  // which would have this process run the other tests
      ADD_FAILURE() << error.what();
    }
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kNoNetwork) GTEST_SKIP() << "there is no right to a network of its own";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(TcpConnection, APeerThatIsThereMayReadWhenItLikes) {
  in_own_network([] {
    const Pair pair = connect_pair(4000);
    const std::string much(kMuch, 'x');
    auto sent = std::async(std::launch::async, [&] {
      return message_of([&] { pair.near.send(Kind::data, much, never()); }, ErrorCode::COMMUNICATION_FAILED);
    });
    EXPECT_EQ(sent.wait_for(std::chrono::duration<double>(3 * kSilence)), std::future_status::timeout);
    EXPECT_TRUE(pair.far.receive(after(60)).bytes == much);
    EXPECT_EQ(sent.get(), "no error");
  });
}

TEST(TcpConnection, APeerWhoseMachineIsGoneIsNoticed) {
  in_own_network([] {
    const Pair writing = connect_pair(4001), waiting = connect_pair(4002), idle = connect_pair(4003);
    ASSERT_TRUE(set_loopback(false));
    waiting.near.send(Kind::data, "not answered", never());
    std::vector<std::thread> calls;
    const std::string much(kMuch, 'x');
    calls.emplace_back([&] { expect_broken([&] { writing.near.send(Kind::data, much, never()); }); });
    calls.emplace_back([&] { expect_broken([&] { waiting.near.receive(never()); }); });
    calls.emplace_back([&] { expect_broken([&] { idle.near.receive(never()); }); });
    for (std::thread& call : calls) call.join();
  });
}

}  // namespace
}  // namespace mor::test
