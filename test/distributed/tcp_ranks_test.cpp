// Tests of ranks that find each other over TCP: ranks are threads, which meet at 127.0.0.1.
#include "distributed/tcp_ranks.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <thread>

#include "device/device.h"
#include "distributed/tcp_connection.h"
#include "test/error_message.h"

namespace mor::test {
namespace {

constexpr double kLong = 120;  ///< seconds, more than any machine takes

/// A port that nobody listens at.
int free_port() {
  const Socket socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

TcpOptions options_of(int32_t rank, int32_t size, int port, double join_seconds = kLong) {
  TcpOptions options;
  options.address = "127.0.0.1";
  options.port = port;
  options.rank = rank;
  options.size = size;
  options.join_seconds = join_seconds;
  return options;
}

/// Runs every one of the ranks on a thread; what each throws, or "no error".
std::vector<std::string> run(const std::vector<TcpOptions>& all, const std::function<void(HostRanks&)>& body) {
  std::vector<std::string> errors(all.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < all.size(); ++i)
    threads.emplace_back([&, i] {
      errors[i] = message_of(
          [&] {
            const std::unique_ptr<HostRanks> ranks = join_tcp(all[i]);
            body(*ranks);
          },
          ErrorCode::COMMUNICATION_FAILED);
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::vector<TcpOptions> ranks_of(int32_t size) {
  const int port = free_port();
  std::vector<TcpOptions> all;
  for (int32_t rank = 0; rank < size; ++rank) all.push_back(options_of(rank, size, port));
  return all;
}

/// Of different sizes, those of rank 0 empty and those of rank 1 more than a socket takes at once, with zeros.
std::string given(int32_t rank, int round) {
  return std::string(static_cast<size_t>(rank) * 1000003, static_cast<char>(rank + round - 1));
}

TEST(TcpRanks, GatherWhatEachGives) {
  for (const int32_t size : {1, 2, 4}) {
    const auto errors = run(ranks_of(size), [&](HostRanks& ranks) {
      EXPECT_EQ(ranks.size(), size);
      for (int round = 0; round < 2; ++round) {
        const std::vector<std::string> all = ranks.gather(given(ranks.rank(), round));
        ASSERT_EQ(all.size(), static_cast<size_t>(size));
        for (int32_t rank = 0; rank < size; ++rank)
          EXPECT_TRUE(all[static_cast<size_t>(rank)] == given(rank, round)) << "of rank " << rank;
      }
    });
    EXPECT_EQ(errors, std::vector<std::string>(static_cast<size_t>(size), "no error"));
  }
}

/// As of a trainer and of a gather of texts that is not awaited.
TEST(TcpRanks, TwoThreadsTakeTurns) {
  const auto errors = run(ranks_of(2), [&](HostRanks& ranks) {
    const auto gather = [&] {
      for (int round = 0; round < 5; ++round) {
        ranks.require_present();
        const std::vector<std::string> all = ranks.gather(given(ranks.rank(), 0));
        EXPECT_TRUE(all.at(1) == given(1, 0));
      }
    };
    std::thread other(gather);
    gather();
    other.join();
  });
  EXPECT_EQ(errors, std::vector<std::string>(2, "no error"));
}

TEST(TcpRanks, MissingOnesAreNamedOnEveryRankThatIsThere) {
  const int port = free_port();
  const auto errors = run({options_of(0, 4, port, 1), options_of(2, 4, port)}, [](HostRanks&) { ADD_FAILURE(); });
  EXPECT_EQ(errors[0], concat("ranks 1, 3 of 4 did not join within 1 s at 127.0.0.1:", port,
                              "; look whether they were started, and reach this address"));
  EXPECT_EQ(errors[1], errors[0]);
}

TEST(TcpRanks, RankZeroIsWaitedForAndNamed) {
  const int port = free_port();
  const std::string error = run({options_of(1, 2, port, 0.2)}, [](HostRanks&) { ADD_FAILURE(); })[0];
  EXPECT_EQ(error, concat("rank 0 was not there within 0.2 s: 127.0.0.1:", port,
                          ": Connection refused; start all ranks, with MASTER_ADDR an address of rank 0's machine "
                          "and the same port on all"));
}

TEST(TcpRanks, AnAddressThatIsNoneIsNamed) {
  TcpOptions other = options_of(1, 2, 1, 0.1), zero = options_of(0, 2, 1, 0.1);
  other.address = zero.address = "..";
  for (const TcpOptions& options : {other, zero}) {
    const std::string error = run({options}, [](HostRanks&) { ADD_FAILURE(); })[0];
    EXPECT_NE(error.find("..:1: "), std::string::npos) << error;
  }
}

TEST(TcpRanks, AnotherSizeAndTheSameRankAreErrorsOfBoth) {
  const int port = free_port();
  EXPECT_EQ(run({options_of(0, 2, port), options_of(1, 3, port)}, [](HostRanks&) { ADD_FAILURE(); }),
            std::vector<std::string>(2,
                                     "rank 1 was started as one of 3 ranks, but rank 0 as one of 2; start every rank "
                                     "once, all with the same number of ranks"));
  const int next = free_port();
  EXPECT_EQ(
      run({options_of(0, 3, next), options_of(1, 3, next), options_of(1, 3, next)}, [](HostRanks&) { ADD_FAILURE(); }),
      std::vector<std::string>(3,
                               "two processes say that they are rank 1; start every rank once, all with the "
                               "same number of ranks"));
}

TEST(TcpRanks, ThoseThatAreNoneAreErrors) {
  EXPECT_EQ(run({options_of(2, 2, 1)}, [](HostRanks&) {})[0],
            "rank 2 of 2 is none; RANK counts from 0 and is less than WORLD_SIZE");
  EXPECT_EQ(run({options_of(0, 1, 65536)}, [](HostRanks&) {})[0], "the port is 65536, but must be from 1 to 65535");
}

TEST(TcpRanks, APortInUseIsNamed) {
  const int port = free_port();
  const Socket taken = listen_at("127.0.0.1", port);
  EXPECT_EQ(
      run({options_of(0, 2, port)}, [](HostRanks&) { ADD_FAILURE(); })[0],
      concat("rank 0 cannot listen at 127.0.0.1:", port,
             ": Address already in use; give all ranks an address of rank 0's machine as MASTER_ADDR, and a free port "
             "there as MOR_MASTER_PORT"));
}

TEST(TcpRanks, MayGiveUpWaitingForRanksToStart) {
  const int port = free_port();
  for (const int32_t rank : {0, 1}) {
    int left = 3;
    const auto check = [&] { MOR_CHECK(left-- > 0, ABORTED, "enough"); };
    EXPECT_EQ(message_of([&] { join_tcp(options_of(rank, 3, port), check); }, ErrorCode::ABORTED), "enough");
  }
  std::atomic<int> waited = 0;
  std::thread zero([&] {
    const auto check = [&] { MOR_CHECK(waited < 5, ABORTED, "enough"); };
    EXPECT_EQ(message_of([&] { join_tcp(options_of(0, 3, port), check); }, ErrorCode::ABORTED), "enough");
  });
  TcpConnection("127.0.0.1", port, "rank 0", 20, kLong);  // It listens now.
  // Rank 1 has joined, and waits for rank 2 when rank 0 gives up.
  const std::string error =
      message_of([&] { join_tcp(options_of(1, 3, port), [&] { ++waited; }); }, ErrorCode::COMMUNICATION_FAILED);
  EXPECT_EQ(error.find("rank 0"), 0u) << error;
  zero.join();
}

/// Ranks over TCP gather, but have nothing that adds up what is in the memory of CPUs.
TEST(TcpRanks, CannotTrainOnCpus) {
  const auto errors = run(ranks_of(2), [](HostRanks& ranks) {
    check_ranks_fit(ranks, "cuda:0");
    check_ranks_fit(ranks, "cpu");
  });
  for (int32_t rank = 0; rank < 2; ++rank)
    EXPECT_EQ(errors[static_cast<size_t>(rank)],
              concat("torchrun started this process as rank ", rank,
                     " of 2, but ranks on CPUs need MPI; start them with 'mpirun -n <ranks>' or 'srun'"));
}

/// Somebody who is no rank connects first: he closes at once, sends something else, or more than a rank would.
TEST(TcpRanks, StrangersAreSentAway) {
  const std::vector<TcpOptions> all = ranks_of(2);
  std::thread stranger([&] {
    for (const std::string& sent : {std::string(), std::string("GET / HTTP/1.1\r\n\r\n"), std::string(20, '\0')}) {
      const TcpConnection connection("127.0.0.1", all[0].port, "rank 0", 20, kLong);
      ::send(connection.descriptor(), sent.data(), sent.size(), MSG_NOSIGNAL);
    }
  });
  std::thread zero([&] { EXPECT_EQ(join_tcp(all[0])->gather("a").at(1), "b"); });
  stranger.join();
  EXPECT_EQ(join_tcp(all[1])->gather("b").at(0), "a");
  zero.join();
}

/// The address that a socket listens at, or "all".
std::string place_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char host[64] = "";
  EXPECT_EQ(getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  EXPECT_EQ(getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof host, nullptr, 0, NI_NUMERICHOST), 0);
  const std::string name = host;
  return name == "0.0.0.0" || name == "::" ? "all" : name;
}

TEST(TcpRanks, ANameForALoopbackAddressKeepsNoOtherMachineOut) {
  EXPECT_EQ(place_of(listen_at("127.0.0.1", free_port())), "127.0.0.1");
  EXPECT_EQ(place_of(listen_at("localhost", free_port())), "all");
  const std::string here = place_of(listen_at("localhost", free_port(), true));
  EXPECT_TRUE(here == "127.0.0.1" || here == "::1") << here;
}

TEST(TcpRanks, WhatGivesBackWhatARankSaysIsNotRankZero) {
  TcpOptions options = options_of(1, 2, free_port());
  const Socket listener = listen_at(options.address, options.port);
  std::thread echo([&] {
    wait_readable({listener.get()}, after(kLong));
    const Socket socket(accept(listener.get(), nullptr, nullptr));
    char bytes[256];
    for (ssize_t n; (n = ::recv(socket.get(), bytes, sizeof bytes, 0)) > 0;)
      ::send(socket.get(), bytes, static_cast<size_t>(n), MSG_NOSIGNAL);
  });
  EXPECT_EQ(run({options}, [](HostRanks&) { ADD_FAILURE(); })[0],
            concat("what listens at 127.0.0.1:", options.port,
                   " is not rank 0; give all ranks a free port of rank 0's machine as MOR_MASTER_PORT"));
  echo.join();
}

/// Another program listens where rank 0 should: it says nothing, or what no rank says.
TEST(TcpRanks, SomebodyElseInPlaceOfRankZeroIsNamedByItsAddress) {
  for (const std::string& said : {std::string(), std::string("HTTP/1.1 400 Bad Request\r\n\r\n")}) {
    TcpOptions options = options_of(1, 2, free_port(), 0.2);
    options.silence_seconds = 0.2;
    const Socket listener = listen_at(options.address, options.port);
    std::thread stranger([&] {
      wait_readable({listener.get()}, after(kLong));
      const Socket socket(accept(listener.get(), nullptr, nullptr));
      ::send(socket.get(), said.data(), said.size(), MSG_NOSIGNAL);
      char byte;
      while (::recv(socket.get(), &byte, 1, 0) > 0) {  // until the rank has given up
      }
    });
    const std::string what = said.empty() ? "says nothing" : "sent what is no message of a rank";
    EXPECT_EQ(run({options}, [](HostRanks&) { ADD_FAILURE(); })[0],
              concat("rank 0 ", what, ": 127.0.0.1:", options.port,
                     "; look whether another program listens there, and if so, give all ranks a free port of rank 0's "
                     "machine as MOR_MASTER_PORT"));
    stranger.join();
  }
}

/// The others learn it from rank 0, or, if that is the one, from their connection to it.
TEST(TcpRanks, OneThatLeavesIsNamedOnAllOthers) {
  for (const int32_t leaving : {0, 2}) {
    const auto errors = run(ranks_of(3), [&](HostRanks& ranks) {
      ranks.gather("all are there");
      ranks.require_present();
      if (ranks.rank() == leaving) return;
      const std::string first = message_of([&] { ranks.gather("some are there"); }, ErrorCode::COMMUNICATION_FAILED);
      EXPECT_EQ(message_of([&] { ranks.require_present(); }, ErrorCode::COMMUNICATION_FAILED), first);
      ranks.gather("none");  // throws the same again
    });
    for (int32_t rank = 0; rank < 3; ++rank)
      EXPECT_EQ(errors[static_cast<size_t>(rank)],
                rank == leaving ? "no error" : concat("rank ", leaving, " has left", kWhyLeft));
  }
}

/// From another thread, while this one waits for a rank that never gathers.
TEST(TcpRanks, CallsUnderWayEndWhenTheRankLeaves) {
  for (const int32_t leaving : {0, 1}) {
    const auto errors = run(ranks_of(2), [&](HostRanks& ranks) {
      ranks.gather("all are there");
      if (ranks.rank() == leaving) {
        std::thread other([&] { ranks.abandon(); });
        EXPECT_EQ(message_of([&] { ranks.gather("in vain"); }, ErrorCode::COMMUNICATION_FAILED),
                  concat("rank ", leaving, " has left the others"));
        other.join();
        ranks.abandon();
        return;
      }
      for (;;) ranks.require_present();
    });
    EXPECT_EQ(errors[static_cast<size_t>(leaving)], "no error");
    EXPECT_EQ(errors[static_cast<size_t>(1 - leaving)], concat("rank ", leaving, " has left", kWhyLeft));
  }
}

TEST(TcpRanks, OneThatLeavesIsMissedByThoseWhoOnlyLook) {
  for (const int32_t leaving : {0, 2}) {
    const auto errors = run(ranks_of(3), [&](HostRanks& ranks) {
      ranks.gather("all are there");
      if (ranks.rank() == leaving) return;
      for (;;) {
        ranks.require_present();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    for (int32_t rank = 0; rank < 3; ++rank)
      EXPECT_EQ(errors[static_cast<size_t>(rank)],
                rank == leaving ? "no error" : concat("rank ", leaving, " has left", kWhyLeft));
  }
}

}  // namespace
}  // namespace mor::test
