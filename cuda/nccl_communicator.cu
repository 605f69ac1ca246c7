// A Communicator over NCCL. Its work runs on a stream of its own, beside the stream of the device, behind an event of
// it.
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "cuda/cuda_device.h"
#include "cuda/nccl_communicator.h"
#include "cuda/tile/for_each.cuh"
#include "distributed/tensor_checks.h"

namespace mor::cuda {

namespace {

struct ToBf16 {
  const float* from;
  bf16* to;

  __device__ void operator()(int64_t, int64_t i) const { to[i] = from_float<bf16>(from[i]); }
};

/// sum[i] = pieces[0][i] + pieces[1][i] + …, each piece n elements.
struct AddPieces {
  const bf16* pieces;
  int64_t count, n;
  float* sum;

  __device__ void operator()(int64_t, int64_t i) const {
    float total = to_float(pieces[i]);
    for (int64_t p = 1; p < count; ++p) total += to_float(pieces[p * n + i]);
    sum[i] = total;
  }
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(CudaOps& ops, HostRanks& host, const Nccl& nccl, const NcclId& id)
      : ops_(ops), host_(host), nccl_(nccl), stream_(ops.stream().device()), before_(stream_), after_(stream_) {
    stream_.handle();  // makes the device current, which NCCL takes
    NcclConfig config;
    try {
      check(nccl_.comm_init_rank_config(&comm_, size(), id, rank(), &config), "ncclCommInitRankConfig");
    } catch (...) {
      if (comm_ != nullptr) nccl_.comm_abort(comm_);
      throw;
    }
  }

  /// Gives up what is not done: it might wait for a rank that is gone.
  ~NcclCommunicator() override {
    if (failed_ || started_)
      nccl_.comm_abort(comm_);
    else
      nccl_.comm_destroy(comm_);
    stream_.drain();
    for (void* memory : {sent_, received_}) cudaFree(memory);
  }

  int32_t rank() const override { return host_.rank(); }
  int32_t size() const override { return host_.size(); }
  /// A call under way sees it when it looks after the other ranks the next time.
  void abandon() override {
    abandoned_ = true;
    host_.abandon();
  }
  std::vector<std::string> gather(std::string_view bytes) override { return host_.gather(bytes); }
  void require_present() override { host_.require_present(); }

  void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) override {
    check_reduce_scatter(size(), values, sum, wire);
    const int64_t n = sum.count();
    const cudaStream_t stream = begin();
    if (wire == DType::float32)
      check(nccl_.reduce_scatter(values.as<float>(), sum.as<float>(), static_cast<size_t>(n), Nccl::kFloat32,
                                 Nccl::kSum, comm_, stream),
            "ncclReduceScatter");
    else
      reduce_scatter_bf16(values.as<float>(), n, sum.as<float>(), stream);
  }

  void all_gather(const Tensor& all) override {
    check_all_gather(size(), all);
    const size_t piece = static_cast<size_t>(all.count() / size()) * dtype_size(all.dtype);
    const cudaStream_t stream = begin();
    const char* own = static_cast<const char*>(all.data) + static_cast<size_t>(rank()) * piece;
    check(nccl_.all_gather(own, all.data, piece, Nccl::kUint8, comm_, stream), "ncclAllGather");
  }

  void wait() override {
    if (!started_) return;
    finish();
    started_ = false;
  }

 private:
  /// The stream, behind all that the device was told.
  cudaStream_t begin() {
    require_working();
    started_ = true;
    before_.record(ops_.stream());
    const cudaStream_t stream = stream_.handle();
    stream_.check(cudaStreamWaitEvent(stream, before_.handle(), 0), "cudaStreamWaitEvent");
    return stream;
  }

  /// The values travel as bfloat16, but are added in float32, which ncclReduceScatter would not do.
  void reduce_scatter_bf16(const float* values, int64_t n, float* sum, cudaStream_t stream) {
    const int64_t all = n * size();
    reserve(static_cast<size_t>(all) * sizeof(bf16));
    auto *sent = static_cast<bf16*>(sent_), *received = static_cast<bf16*>(received_);
    for_each<1>(stream_, 1, all, ToBf16{values, sent});
    check(nccl_.group_start(), "ncclGroupStart");
    for (int32_t peer = 0; peer < size(); ++peer) {
      const auto count = static_cast<size_t>(n);
      check(nccl_.send(sent + peer * n, count, Nccl::kBfloat16, peer, comm_, stream), "ncclSend");
      check(nccl_.recv(received + peer * n, count, Nccl::kBfloat16, peer, comm_, stream), "ncclRecv");
    }
    check(nccl_.group_end(), "ncclGroupEnd");
    for_each<1>(stream_, 1, n, AddPieces{received, size(), n, sum});
  }

  /// Makes room for the largest reduce_scatter so far.
  void reserve(size_t bytes) {
    if (bytes <= reserved_) return;
    finish();
    for (void** memory : {&sent_, &received_}) {
      cudaFree(std::exchange(*memory, nullptr));
      reserved_ = 0;
      stream_.check(cudaMalloc(memory, bytes), "the gradients that travel");
    }
    reserved_ = bytes;
  }

  /// The host waits for the stream, and looks after the other ranks meanwhile: a sum that lacks one of them must not
  /// reach the weights.
  void finish() {
    after_.record(stream_);
    for (;;) {
      require_working();
      const cudaError_t status = cudaEventQuery(after_.handle());
      if (status == cudaSuccess) break;
      if (status != cudaErrorNotReady) stream_.check(status, "cudaEventQuery");
      pause();
    }
    require_working();
  }

  static void pause() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

  void require_working() {
    MOR_CHECK(!failed_, COMMUNICATION_FAILED, "NCCL failed before; start the ranks again");
    check(state(), "an operation");
    require_ranks();
  }

  void require_ranks() {
    try {
      MOR_CHECK(!abandoned_, COMMUNICATION_FAILED, "rank ", rank(), " has left the others");
      host_.require_present();
    } catch (...) {
      failed_ = true;
      throw;
    }
  }

  int state() {
    int of_comm = 0;
    const int result = nccl_.comm_get_async_error(comm_, &of_comm);
    return result != 0 ? result : of_comm;
  }

  /// Waits until a call that returned `result` is done.
  void check(int result, const char* what) {
    while (result == Nccl::kInProgress) {
      require_ranks();
      pause();
      result = state();
    }
    if (result == 0) return;
    failed_ = true;
    MOR_FAIL(COMMUNICATION_FAILED, "NCCL: ", what, " failed on rank ", rank(), " of ", size(), ": ",
             nccl_.get_error_string(result), "; the environment variable NCCL_DEBUG=WARN makes it say more");
  }

  CudaOps& ops_;
  HostRanks& host_;
  const Nccl& nccl_;
  Stream stream_;
  Event before_, after_;
  Nccl::Comm comm_ = nullptr;
  bool failed_ = false, started_ = false;
  std::atomic<bool> abandoned_ = false;
  void *sent_ = nullptr, *received_ = nullptr;
  size_t reserved_ = 0;  ///< bytes of each
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(CudaOps& ops, HostRanks& host,
                                                     const std::function<const Nccl&()>& nccl) {
  // Every rank says whether it has NCCL, because the others would wait for one without it for ever. Rank 0 also says
  // the id: a '+' and its bytes, or a '-' and what went wrong.
  const Nccl* functions = nullptr;
  std::string own = "+";
  try {
    functions = &nccl();
    if (host.rank() == 0) {
      NcclId id;
      const int result = functions->get_unique_id(&id);
      MOR_CHECK(result == 0, COMMUNICATION_FAILED,
                "NCCL: ncclGetUniqueId failed: ", functions->get_error_string(result));
      own.append(id.bytes, sizeof id.bytes);
    }
  } catch (const Error& error) {
    own = std::string("-") + error.what();
  }
  const std::vector<std::string> all = host.gather(own);
  for (size_t rank = 0; rank < all.size(); ++rank)
    MOR_CHECK(all[rank].front() == '+', COMMUNICATION_FAILED, "rank ", rank, ": ", all[rank].substr(1));
  NcclId id;
  all[0].copy(id.bytes, sizeof id.bytes, 1);
  return std::make_unique<NcclCommunicator>(ops, host, *functions, id);
}

}  // namespace mor::cuda

namespace mor {

std::unique_ptr<Communicator> make_nccl_communicator(Ops& ops, HostRanks& host) {
  return cuda::make_nccl_communicator(static_cast<cuda::CudaOps&>(ops), host, cuda::open_nccl);
}

}  // namespace mor
