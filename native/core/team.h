// Team: the threads that compute; the process has one team.
#pragma once

#include <cstdint>

namespace mor {

/// How many threads suit a job: as many as the processors that this process may run on, and no more than its control
/// group grants, because more would use up their time early in each period and then all wait. At least 1.
int usable_threads();

/// The calling thread and helper threads. Helpers are started when they are first needed and live as long as the
/// process.
///
/// Work is cut into parts before it starts, so results never depend on which thread runs a part. Each thread begins
/// with a stretch of parts of its own, which suits its caches, and then takes parts that other threads have not begun:
/// so a helper that has no core delays nothing. Two models in one process do not compete for cores either: while one
/// uses the team, the other's thread runs its parts alone.
class Team {
 public:
  static Team& of_process();

  /// Calls body(part, thread) once for every part in [0, parts) and returns when all are done. At most `threads` parts
  /// run at a time, each with another number `thread` in [0, threads), which may choose its scratch memory. If
  /// a part throws, parts that have not begun are left out, and once the others are done, run throws what the first
  /// such part threw.
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
  ~Team() = delete;  // helpers run until the process ends
  void run(const Job& job);

  State* state_;
};

}  // namespace mor
