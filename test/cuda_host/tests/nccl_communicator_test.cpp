// Tests of the communicator over NCCL: its ranks are threads with one device each, and NCCL's functions are a model
// that runs every call at once.
#include "cuda/nccl_communicator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "cuda/cuda_device.h"
#include "test/distributed/rank_values.h"
#include "test/distributed/thread_communicator.h"
#include "test/error_message.h"
#include "test/train/data_parallel.h"

namespace mor::cuda_host::test {
namespace {

using cuda::Nccl;
using cuda::NcclId;
using mor::test::message_of;

// ---- the model of NCCL

struct Model {
  explicit Model(int32_t size) : ranks(size) {}
  mor::test::ThreadRanks ranks;
  int failing_rank = -1;  ///< whose next call of `failing` returns an error
  std::string failing;
  int async_error = 0;
  bool never_done = false;  ///< calls stay in progress for ever
  std::atomic<int> aborted = 0, destroyed = 0;
};
Model* model = nullptr;

struct Comm {
  int rank;
  std::vector<std::pair<int, std::string>> sent;  ///< of the group
  std::vector<std::pair<int, void*>> wanted;
  int polls;  ///< how often it will still say that its last call is in progress
};
Comm& comm_of(void* comm) {
  return *static_cast<Comm*>(comm);
}

constexpr int kSystemError = 2, kInvalidArgument = 4, kInvalidUsage = 5;
constexpr int kPolls = 2;

size_t size_of(int type) {
  return type == Nccl::kUint8 ? 1 : type == Nccl::kBfloat16 ? 2 : 4;
}

bool fails(int rank, const char* function) {
  return model->failing_rank == rank && model->failing == function;
}

std::string from_device(const void* data, size_t bytes, cudaStream_t stream) {
  std::string host(bytes, '?');
  EXPECT_EQ(cudaMemcpyAsync(host.data(), data, bytes, cudaMemcpyDeviceToHost, stream), cudaSuccess);
  return host;
}
void to_device(void* data, const std::string& host, cudaStream_t stream) {
  EXPECT_EQ(cudaMemcpyAsync(data, host.data(), host.size(), cudaMemcpyHostToDevice, stream), cudaSuccess);
}

int get_unique_id(NcclId* id) {
  std::memset(id->bytes, 'i', sizeof id->bytes);
  id->bytes[3] = 0;
  return fails(0, "ncclGetUniqueId") ? kSystemError : 0;
}
int comm_init_rank_config(Nccl::Comm* comm, int ranks, NcclId id, int rank, cuda::NcclConfig* config) {
  NcclId expected;
  get_unique_id(&expected);
  if (config->magic != 0xcafebeef || config->blocking != 0) return kInvalidArgument;
  if (ranks != model->ranks.size || std::memcmp(id.bytes, expected.bytes, sizeof id.bytes) != 0)
    return kInvalidArgument;
  if (fails(rank, "ncclCommInitRankConfig")) return kSystemError;
  *comm = new Comm{rank, {}, {}, kPolls};
  return Nccl::kInProgress;
}
int comm_abort(Nccl::Comm comm) {
  ++model->aborted;
  delete &comm_of(comm);
  return 0;
}
int comm_destroy(Nccl::Comm comm) {
  ++model->destroyed;
  delete &comm_of(comm);
  return 0;
}
int comm_get_async_error(Nccl::Comm comm, int* error) {
  *error = model->failing_rank == comm_of(comm).rank ? model->async_error : 0;
  if (*error == 0 && (model->never_done || comm_of(comm).polls > 0)) {
    --comm_of(comm).polls;
    *error = Nccl::kInProgress;
  }
  return 0;
}
const char* get_error_string(int result) {
  return result == kSystemError ? "unhandled system error" : "something else";
}

/// What a call returns that has begun now; the one before it must be done.
int begun(Comm& comm) {
  if (comm.polls > 0) return kInvalidUsage;
  comm.polls = kPolls;
  return Nccl::kInProgress;
}

int all_gather(const void* own, void* all, size_t count, int type, Nccl::Comm comm, cudaStream_t stream) {
  const int rank = comm_of(comm).rank;
  if (fails(rank, "ncclAllGather")) return kSystemError;
  std::string joined;
  for (const std::string& part :
       model->ranks.exchange("all_gather", rank, from_device(own, count * size_of(type), stream)))
    joined += part;
  to_device(all, joined, stream);
  return begun(comm_of(comm));
}
int reduce_scatter(const void* values, void* sum, size_t count, int type, int op, Nccl::Comm comm,
                   cudaStream_t stream) {
  if (type != Nccl::kFloat32 || op != Nccl::kSum) return kInvalidArgument;
  const int rank = comm_of(comm).rank;
  const size_t bytes = count * sizeof(float);
  std::vector<float> total(count, 0);
  for (const std::string& part : model->ranks.exchange(
           "reduce_scatter", rank, from_device(values, bytes * static_cast<size_t>(model->ranks.size), stream))) {
    std::vector<float> piece(count);
    std::memcpy(piece.data(), part.data() + static_cast<size_t>(rank) * bytes, bytes);
    for (size_t i = 0; i < count; ++i) total[i] += piece[i];
  }
  to_device(sum, {reinterpret_cast<const char*>(total.data()), bytes}, stream);
  return begun(comm_of(comm));
}

int group_start() {
  return 0;
}
/// The group that this thread makes.
thread_local Nccl::Comm grouped = nullptr;
thread_local cudaStream_t grouped_stream = nullptr;
int send(const void* data, size_t count, int type, int peer, Nccl::Comm comm, cudaStream_t stream) {
  grouped = comm;
  grouped_stream = stream;
  comm_of(comm).sent.emplace_back(peer, from_device(data, count * size_of(type), stream));
  return 0;
}
int recv(void* data, size_t, int, int peer, Nccl::Comm comm, cudaStream_t) {
  comm_of(comm).wanted.emplace_back(peer, data);
  return 0;
}
int group_end() {
  Comm& comm = comm_of(grouped);
  std::string all(comm.sent.size() * comm.sent[0].second.size(), '?');  // by the rank that receives
  for (const auto& [peer, bytes] : comm.sent)
    all.replace(static_cast<size_t>(peer) * bytes.size(), bytes.size(), bytes);
  const size_t bytes = comm.sent[0].second.size();
  const std::vector<std::string> given = model->ranks.exchange("group", comm.rank, all);
  for (const auto& [peer, data] : comm.wanted)
    to_device(data, given[static_cast<size_t>(peer)].substr(static_cast<size_t>(comm.rank) * bytes, bytes),
              grouped_stream);
  comm.sent.clear();
  comm.wanted.clear();
  return begun(comm);
}

constexpr Nccl kNccl{get_unique_id,
                     comm_init_rank_config,
                     comm_abort,
                     comm_destroy,
                     comm_get_async_error,
                     get_error_string,
                     group_start,
                     group_end,
                     send,
                     recv,
                     reduce_scatter,
                     all_gather};

// ---- the tests

/// A communicator of device memory as one of host memory, so that the tests of the latter hold for it.
class OnTheHost final : public Communicator {
 public:
  OnTheHost(Ops& ops, Communicator& device) : ops_(ops), device_(device) {}
  ~OnTheHost() override { release(); }
  int32_t rank() const override { return device_.rank(); }
  int32_t size() const override { return device_.size(); }
  void abandon() override { device_.abandon(); }
  void require_present() override { device_.require_present(); }
  std::vector<std::string> gather(std::string_view bytes) override { return device_.gather(bytes); }
  void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) override {
    Tensor on_device = place(sum);
    device_.reduce_scatter(place(values), on_device, wire);
    results_.emplace_back(on_device, sum);
  }
  void all_gather(const Tensor& all) override {
    Tensor on_device = place(all);
    device_.all_gather(on_device);
    results_.emplace_back(on_device, all);
  }
  void wait() override {
    device_.wait();
    for (const auto& [from, to] : results_) ops_.copy_to_host(to.data, from.data, bytes_of(to));
    results_.clear();
    release();
  }

 private:
  void release() {
    for (const auto& [memory, bytes] : memory_) ops_.release(memory, bytes);
    memory_.clear();
  }
  static size_t bytes_of(const Tensor& tensor) {
    return static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype);
  }
  Tensor place(Tensor tensor) {
    const size_t bytes = bytes_of(tensor);
    void* memory = ops_.allocate(bytes);
    memory_.emplace_back(memory, bytes);
    if (bytes > 0) ops_.copy_to_device(memory, tensor.data, bytes);
    tensor.data = memory;
    return tensor;
  }

  Ops& ops_;
  Communicator& device_;
  std::vector<std::pair<void*, size_t>> memory_;
  std::vector<std::pair<Tensor, Tensor>> results_;
};

/// Ranks of hosts, whose absence is noticed when `look` throws.
class Watched final : public HostRanks {
 public:
  Watched(HostRanks& ranks, const std::function<void()>& look) : ranks_(ranks), look_(look) {}
  int32_t rank() const override { return ranks_.rank(); }
  int32_t size() const override { return ranks_.size(); }
  void abandon() override { ranks_.abandon(); }
  std::vector<std::string> gather(std::string_view bytes) override { return ranks_.gather(bytes); }
  void require_present() override { look_(); }

 private:
  HostRanks& ranks_;
  const std::function<void()>& look_;
};

class NcclCommunicator : public ::testing::Test {
 protected:
  ~NcclCommunicator() override {
    machine() = {};
    model = nullptr;
  }

  /// Runs `body` as every rank; what each throws, or "no error".
  static std::vector<std::string> run(
      Model& of, const std::function<void(Communicator&, Ops&)>& body,
      const std::function<void()>& require_ranks = [] {},
      const std::function<const Nccl&()>& nccl = []() -> const Nccl& { return kNccl; }) {
    model = &of;
    std::vector<std::string> errors(static_cast<size_t>(of.ranks.size));
    mor::test::run_ranks(of.ranks.size, [&](mor::test::ThreadCommunicator& host) {
      errors[static_cast<size_t>(host.rank())] = message_of(
          [&] {
            const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
            Watched watched(host, require_ranks);
            const auto ranks = cuda::make_nccl_communicator(static_cast<cuda::CudaOps&>(*ops), watched, nccl);
            body(*ranks, *ops);
          },
          ErrorCode::COMMUNICATION_FAILED);
    });
    return errors;
  }
};

const std::vector<std::string> kNoErrors(3, "no error");

TEST_F(NcclCommunicator, ComputesAsEveryOther) {
  Model three(3);
  EXPECT_EQ(run(three,
                [](Communicator& ranks, Ops& ops) {
                  OnTheHost host(ops, ranks);
                  mor::test::check_gather(host);
                  for (const DType wire : {DType::float32, DType::bfloat16})
                    for (const int64_t n : {1, 700, 40}) mor::test::check_reduce_scatter(host, n, wire);
                  for (const DType dtype : {DType::float32, DType::bfloat16, DType::uint8})
                    mor::test::check_all_gather(host, 301, dtype);
                }),
            kNoErrors);
  EXPECT_EQ(three.destroyed, 3);
  EXPECT_EQ(three.aborted, 0);
}

/// Ranks with devices learn what those of the reference learn, which tell each other by memory that they share.
TEST_F(NcclCommunicator, TrainsAsRanksOfTheReference) {
  const ModelConfig config = mor::test::tiny_config();
  const mor::test::Plan plan{{1, 1}, true};
  constexpr uint32_t kSteps = 2;
  const mor::test::Trained expected = mor::test::train_ranks(config, mor::test::reference, {}, plan, kSteps);
  Model two(2);
  model = &two;
  mor::test::run_ranks(2, [&](mor::test::ThreadCommunicator& host) {
    mor::Model on_device(config, make_cuda_ops(0, DType::float32));
    on_device.init(1);
    const auto ranks = cuda::make_nccl_communicator(static_cast<cuda::CudaOps&>(on_device.ops()), host,
                                                    []() -> const Nccl& { return kNccl; });
    TrainerOptions options;
    options.communicator = ranks.get();
    options.bucket_size = 128;
    Trainer trainer(on_device, options);
    for (uint32_t t = 0; t < kSteps; ++t) {
      const mor::test::Rows rows = rows_of_rank(plan, config, t, static_cast<size_t>(host.rank()));
      const StepResult step = trainer.step(rows.view());
      EXPECT_NEAR(step.loss, expected.steps[t].loss, 1e-5);
      EXPECT_NEAR(step.gradient_norm, expected.steps[t].gradient_norm, 1e-4);
      EXPECT_EQ(step.tokens, expected.steps[t].tokens);
    }
    mor::test::Tensors weights;
    mor::test::add_weights(on_device, weights);
    for (const auto& [name, values] : weights)
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], expected.weights.at(name)[i], 1e-4) << name;
  });
  EXPECT_EQ(two.destroyed, 2);
}

TEST_F(NcclCommunicator, SaysOnEveryRankThatOneHasNoNccl) {
  Model three(3);
  std::atomic<int> opened = 0;
  const auto errors = run(
      three, [](Communicator&, Ops&) {}, [] {},
      [&]() -> const Nccl& {
        MOR_CHECK(opened++ != 1, COMMUNICATION_FAILED, "NCCL cannot be opened");
        return kNccl;
      });
  EXPECT_EQ(errors[0].substr(0, 5), "rank ");
  EXPECT_NE(errors[0].find(": NCCL cannot be opened"), std::string::npos) << errors[0];
  EXPECT_EQ(errors, std::vector<std::string>(3, errors[0]));
}

TEST_F(NcclCommunicator, NamesTheFunctionThatFails) {
  for (const std::string function : {"ncclGetUniqueId", "ncclCommInitRankConfig", "ncclAllGather"}) {
    Model one(1);
    one.failing_rank = 0;
    one.failing = function;
    const auto errors = run(one, [](Communicator& ranks, Ops& ops) {
      OnTheHost host(ops, ranks);
      std::vector<float> all(4);
      const Tensor tensor = make_vector(all.data(), DType::float32, 4, "all");
      EXPECT_NE(message_of([&] { ranks.all_gather(tensor); }, ErrorCode::COMMUNICATION_FAILED), "no error");
      ranks.wait();
    });
    if (function == "ncclAllGather")
      EXPECT_EQ(errors[0], "NCCL failed before; start the ranks again");
    else
      EXPECT_NE(errors[0].find(function + " failed"), std::string::npos) << errors[0];
    EXPECT_EQ(one.destroyed, 0);
  }
}

/// An all_gather after which the GPU stands still.
void begin_what_never_ends(OnTheHost& host, std::vector<float>& all) {
  host.all_gather(make_vector(all.data(), DType::float32, static_cast<int64_t>(all.size()), "all"));
  machine().never_ready = true;
}

TEST_F(NcclCommunicator, ReportsAnErrorThatComesLater) {
  Model one(1);
  const auto errors = run(one, [&](Communicator& ranks, Ops& ops) {
    OnTheHost host(ops, ranks);
    std::vector<float> all(4);
    begin_what_never_ends(host, all);
    one.failing_rank = 0;
    one.async_error = kSystemError;
    host.wait();
  });
  EXPECT_NE(errors[0].find("NCCL: an operation failed on rank 0 of 1: unhandled system error"), std::string::npos)
      << errors[0];
  EXPECT_EQ(one.aborted, 1);
}

TEST_F(NcclCommunicator, DoesNotWaitForARankThatIsGone) {
  Model one(1);
  int asked = 0;
  const auto errors = run(
      one,
      [&](Communicator& ranks, Ops& ops) {
        OnTheHost host(ops, ranks);
        std::vector<float> all(4);
        begin_what_never_ends(host, all);
        host.wait();
      },
      [&] { MOR_CHECK(++asked < 10, COMMUNICATION_FAILED, "rank 5 is gone"); });
  EXPECT_EQ(errors[0], "rank 5 is gone");
  EXPECT_EQ(one.aborted, 1);
}

TEST_F(NcclCommunicator, DoesNotJoinARankThatIsGone) {
  Model one(1);
  one.never_done = true;
  int asked = 0;
  const auto errors = run(
      one, [](Communicator&, Ops&) { ADD_FAILURE() << "it was made"; },
      [&] { MOR_CHECK(++asked < 10, COMMUNICATION_FAILED, "rank 5 is gone"); });
  EXPECT_EQ(errors[0], "rank 5 is gone");
  EXPECT_EQ(one.aborted, 1);
  EXPECT_EQ(one.destroyed, 0);
}

/// From another thread, while this one waits for the GPU.
TEST_F(NcclCommunicator, CallsUnderWayEndWhenTheRankLeaves) {
  Model one(1);
  const auto errors = run(one, [&](Communicator& ranks, Ops& ops) {
    OnTheHost host(ops, ranks);
    std::vector<float> all(4);
    begin_what_never_ends(host, all);
    std::thread other([&] { ranks.abandon(); });
    EXPECT_EQ(message_of([&] { host.wait(); }, ErrorCode::COMMUNICATION_FAILED), "rank 0 has left the others");
    other.join();
    ranks.gather("too late");
  });
  EXPECT_NE(errors[0], "no error");
  EXPECT_EQ(one.aborted, 1);
}

TEST_F(NcclCommunicator, ChecksTensors) {
  Model one(1);
  EXPECT_EQ(run(one,
                [&](Communicator& ranks, Ops&) {
                  float memory[4];
                  const Tensor three = make_vector(memory, DType::float32, 3, "three");
                  EXPECT_NE(message_of([&] {
                              ranks.reduce_scatter(three, three.slice(0, 2), DType::float32);
                            }).find("must have 1 times the 2 elements"),
                            std::string::npos);
                  EXPECT_NE(message_of([&] { ranks.reduce_scatter(three, three, DType::int32); }).find("not as int32"),
                            std::string::npos);
                })[0],
            "no error");
}

}  // namespace
}  // namespace mor::cuda_host::test
