// Team: the threads that compute, one team for the whole process. Must not know of ops, tensors or what a part is.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace mor {

/// The calling thread and helpers that wait for it. Helpers come when first asked for and stay as long as the process.
///
/// Work is cut into parts before it starts, so results never depend on who ran a part. Each thread begins with a
/// stretch of its own, for its caches' sake, and then takes from the others what they have not begun: a helper without
/// a core delays nobody. Two models in one process do not fight for cores either: while one has the team, the other's
/// thread runs its parts alone.
class Team {
 public:
  static Team& of_process();

  /// Calls body(part, thread) once for every part in [0, parts) and returns when all are done. At most `threads` run at
  /// a time; thread in [0, threads) says whose scratch memory is free for the part. body must not throw.
  template <class Body>
  void run(int64_t parts, int threads, const Body& body) {
    run({[](const void* b, int64_t part, int thread) { (*static_cast<const Body*>(b))(part, thread); }, &body, parts,
         threads});
  }

 private:
  struct Job {
    void (*call)(const void* body, int64_t part, int thread) = nullptr;
    const void* body = nullptr;
    int64_t parts = 0;
    int threads = 1;
  };
  struct State;

  Team();
  ~Team() = delete;  // helpers may outlive everything
  void run(const Job& job);

  State* state_;
};

}  // namespace mor
