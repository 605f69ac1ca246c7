// The functions of MPI between threads.
#include "test/distributed/fake_mpi.h"

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

namespace mor::test {

namespace {

FakeMpi* the_fake = nullptr;
thread_local int this_rank = -1;

/// What Open MPI exports as its handles.
char world_object, byte_object, errors_return_object;

template <class Handle>
struct Handles;
template <>
struct Handles<void*> {
  static void* world() { return &world_object; }
  static void* byte() { return &byte_object; }
  static void* errors_return() { return &errors_return_object; }
  static void* status_ignore() { return nullptr; }
  static void* request(uint64_t id) { return reinterpret_cast<void*>(id << 4); }
  static uint64_t id(void* request) { return reinterpret_cast<uint64_t>(request) >> 4; }
};
/// As mpi.h of MPICH 4 has them.
template <>
struct Handles<int> {
  static int world() { return 0x44000000; }
  static int byte() { return 0x4c00010d; }
  static int errors_return() { return 0x54000000 | 1; }
  static void* status_ignore() { return reinterpret_cast<void*>(1); }
  static int request(uint64_t id) { return static_cast<int>(0x98000000u | id); }
  static uint64_t id(int request) { return static_cast<uint32_t>(request) & 0xffffffu; }
};

constexpr int kInvalid = 5, kTruncated = 15;

}  // namespace

FakeMpi::FakeMpi(MpiFamily family, int ranks) : size_of_world(ranks), family_(family), ranks_(ranks) {
  the_fake = this;
}
FakeMpi::~FakeMpi() {
  the_fake = nullptr;
}

void FakeMpi::fail(int rank, const std::string& function) {
  const std::lock_guard lock(mutex_);
  failing_.emplace(rank, function);
}
void FakeMpi::stop(int rank) {
  const std::lock_guard lock(mutex_);
  stopped_.insert(rank);
}
void FakeMpi::resume(int rank) {
  const std::lock_guard lock(mutex_);
  stopped_.erase(rank);
  changed_.notify_all();
}

int64_t FakeMpi::calls(int rank) {
  const std::lock_guard lock(mutex_);
  return calls_[rank];
}

std::unique_lock<std::mutex> FakeMpi::call(const char* function, int& code) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_.count(this_rank) == 0; });
  ++calls_[this_rank];
  code = failing_.erase({this_rank, function}) != 0 || aborted_ > 0 ? kErrorCode : 0;
  return lock;
}

template <class Handle>
struct FakeFunctions {
  using H = Handles<Handle>;

  template <int rank>
  static int init_thread(int* argc, char*** argv, int required, int* provided) {
    this_rank = rank;
    FakeMpi& fake = *the_fake;
    int code;
    auto lock = fake.call("MPI_Init_thread", code);
    ++fake.initialized_;
    fake.changed_.notify_all();
    fake.changed_.wait(lock, [&] { return fake.initialized_ >= fake.ranks_; });
    *provided = std::min(required, fake.thread_level);
    return argc == nullptr && argv == nullptr ? code : kInvalid;
  }
  static int comm_set_errhandler(Handle comm, Handle handler) {
    int code;
    const auto lock = the_fake->call("MPI_Comm_set_errhandler", code);
    return comm == H::world() && handler == H::errors_return() ? code : kInvalid;
  }
  static int comm_rank(Handle comm, int* rank) {
    int code;
    const auto lock = the_fake->call("MPI_Comm_rank", code);
    *rank = the_fake->first_rank + this_rank;
    return comm == H::world() ? code : kInvalid;
  }
  static int comm_size(Handle comm, int* size) {
    int code;
    const auto lock = the_fake->call("MPI_Comm_size", code);
    *size = the_fake->size_of_world;
    return comm == H::world() ? code : kInvalid;
  }

  static int isend(const void* data, int count, Handle type, int to, int tag, Handle comm, Handle* request) {
    FakeMpi& fake = *the_fake;
    int code;
    const auto lock = fake.call("MPI_Isend", code);
    if (code != 0) return code;
    if (type != H::byte() || comm != H::world() || count < 0 || to < 0 || to >= fake.ranks_) return kInvalid;
    const auto message = std::make_shared<FakeMpi::Message>();
    message->bytes = static_cast<size_t>(count);
    message->data = static_cast<const char*>(data);
    if (count <= 64) {
      message->copy.assign(message->data, message->bytes);
      message->data = message->copy.data();
    }
    const std::tuple route(this_rank, to, tag);
    fake.messages_[route].push_back(message);
    return add({true, false, message, route}, request);
  }
  static int irecv(void* data, int count, Handle type, int from, int tag, Handle comm, Handle* request) {
    FakeMpi& fake = *the_fake;
    int code;
    const auto lock = fake.call("MPI_Irecv", code);
    if (code != 0) return code;
    if (type != H::byte() || comm != H::world() || count < 0 || from < 0 || from >= fake.ranks_) return kInvalid;
    return add({false, false, nullptr, {from, this_rank, tag}, data, static_cast<size_t>(count)}, request);
  }
  static int add(FakeMpi::Request pending, Handle* request) {
    const uint64_t id = the_fake->next_request_++;
    the_fake->requests_[id] = std::move(pending);
    *request = H::request(id);
    return 0;
  }

  static int test(Handle* request, int* flag, void* status) {
    FakeMpi& fake = *the_fake;
    int code;
    const auto lock = fake.call("MPI_Test", code);
    if (code != 0) return code;
    const auto found = fake.requests_.find(H::id(*request));
    if (status != H::status_ignore() || found == fake.requests_.end()) return kInvalid;
    FakeMpi::Request& pending = found->second;
    *flag = pending.sends ? pending.message->bytes <= 64 || pending.message->taken
                          : pending.cancelled || take(pending, code);
    if (*flag != 0) fake.requests_.erase(found);
    return code;
  }
  static bool take(FakeMpi::Request& receive, int& code) {
    const auto found = the_fake->messages_.find(receive.route);
    if (found == the_fake->messages_.end()) return false;
    const std::shared_ptr<FakeMpi::Message> message = found->second.front();
    found->second.pop_front();
    if (found->second.empty()) the_fake->messages_.erase(found);
    message->taken = true;
    if (message->bytes > receive.bytes) code = kTruncated;
    if (code == 0 && message->bytes > 0) std::memcpy(receive.data, message->data, message->bytes);
    return true;
  }
  static int cancel(Handle* request) {
    int code;
    const auto lock = the_fake->call("MPI_Cancel", code);
    const auto found = the_fake->requests_.find(H::id(*request));
    if (found == the_fake->requests_.end() || found->second.sends) return kInvalid;
    found->second.cancelled = true;
    return code;
  }
  static int error_string(int code, char* text, int* length) {
    const std::string meaning = "what the library says of " + std::to_string(code);
    *length = static_cast<int>(meaning.copy(text, 255));
    text[*length] = 0;
    return 0;
  }
  static int finalize() {
    int code;
    const auto lock = the_fake->call("MPI_Finalize", code);
    ++the_fake->finalized_;
    return code;
  }
  static int abort(Handle comm, int status) {
    int code;
    const auto lock = the_fake->call("MPI_Abort", code);
    ++the_fake->aborted_;
    return comm == H::world() && status == 1 ? code : kInvalid;
  }

  static void* find(const std::string& name, int rank) {
    constexpr std::array init = {&init_thread<0>, &init_thread<1>, &init_thread<2>, &init_thread<3>};
    static_assert(init.size() == FakeMpi::kMostRanks);
    const auto is = [&](const char* other, auto* function) {
      return name == other ? reinterpret_cast<void*>(function) : nullptr;
    };
    void* found = is("MPI_Init_thread", init[static_cast<size_t>(rank)]);
    const auto or_else = [&](const char* other, auto* function) {
      if (found == nullptr) found = is(other, function);
    };
    or_else("MPI_Comm_set_errhandler", &comm_set_errhandler);
    or_else("MPI_Comm_rank", &comm_rank);
    or_else("MPI_Comm_size", &comm_size);
    or_else("MPI_Isend", &isend);
    or_else("MPI_Irecv", &irecv);
    or_else("MPI_Test", &test);
    or_else("MPI_Cancel", &cancel);
    or_else("MPI_Error_string", &error_string);
    or_else("MPI_Finalize", &finalize);
    or_else("MPI_Abort", &abort);
    return found;
  }
};

Symbols FakeMpi::symbols(int rank) const {
  return [this, rank](const char* name) -> void* {
    if (name == missing) return nullptr;
    if (family_ == MpiFamily::mpich) return FakeFunctions<int>::find(name, rank);
    if (name == std::string("ompi_mpi_comm_world")) return &world_object;
    if (name == std::string("ompi_mpi_byte")) return &byte_object;
    if (name == std::string("ompi_mpi_errors_return")) return &errors_return_object;
    return FakeFunctions<void*>::find(name, rank);
  };
}

}  // namespace mor::test
