#include "worker/cuda/cuda_device.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace dermis {

absl::Status CudaStatus(const CudaLibraryTable& table, int error, const std::string& what) {
  if (error == kCudaSuccess) return absl::OkStatus();
  if (error == kCudaOther) {
    return absl::UnavailableError(absl::StrCat(what, ": ", table.last_words()));
  }
  const std::string text =
      absl::StrCat(what, ": ", table.error_name(error), ": ", table.error_text(error));
  if (error == kCudaOutOfMemory) return absl::ResourceExhaustedError(text);
  return absl::UnavailableError(text);
}

namespace {

std::atomic<void (*)(const absl::Status&)> on_broken = nullptr;

// CUDA's errors of a context that is lost: uncorrectable memory or link, illegal address, time-out,
// destroyed context, assertion, illegal instruction, ... , failed launch, unknown.
bool Broken(int error) {
  return error == 214 || error == 220 || error == 700 || error == 702 || error == 709 ||
         error == 710 || (error >= 714 && error <= 719) || error == 999;
}

}  // namespace

void OnBrokenCuda(void (*ended)(const absl::Status&)) { on_broken = ended; }

void TellBrokenCuda(const absl::Status& cause) {
  if (const auto ended = on_broken.load(); ended != nullptr) ended(cause);
}

absl::StatusOr<std::unique_ptr<Device>> CudaDevice::Make(const CudaLibraryTable* table, int ordinal,
                                                         void* stream) {
  std::unique_ptr<CudaDevice> device(new CudaDevice(table, ordinal));
  RETURN_IF_ERROR(device->Status(table->set_device(ordinal), "make it the current device"));
  device->stream_ = stream;
  if (stream == nullptr) {
    RETURN_IF_ERROR(device->Status(table->make_stream(&device->stream_), "make a stream"));
    device->own_stream_ = true;
  }
  RETURN_IF_ERROR(device->MakeCurrent());
  return device;
}

CudaDevice::~CudaDevice() {
  if (own_stream_) table_->destroy_stream(stream_);
}

std::string CudaDevice::name() const { return absl::StrCat("GPU ", ordinal_); }

absl::Status CudaDevice::MakeCurrent() {
  RETURN_IF_ERROR(Status(table_->set_device(ordinal_), "make it the current device"));
  return Status(table_->use_stream(ordinal_, stream_), "use its stream");
}

absl::StatusOr<void*> CudaDevice::Allocate(uint64_t bytes) {
  void* memory = nullptr;
  RETURN_IF_ERROR(Status(table_->allocate(&memory, bytes), "allocate memory"));
  return memory;
}

// An error here is one of earlier work, and the next call says it again.
void CudaDevice::Free(void* memory) { table_->free(memory); }

absl::Status CudaDevice::Copy(void* to, const void* from, uint64_t bytes) {
  return Status(table_->copy(to, from, bytes, stream_), "copy");
}

absl::StatusOr<void*> CudaDevice::AllocateHost(uint64_t bytes) {
  void* memory = nullptr;
  RETURN_IF_ERROR(Status(table_->allocate_host(&memory, bytes), "allocate the host's memory"));
  return memory;
}

void CudaDevice::FreeHost(void* memory) { table_->free_host(memory); }

absl::StatusOr<std::unique_ptr<Device>> CudaDevice::Branch() {
  ASSIGN_OR_RETURN(std::unique_ptr<Device> branch, Make(table_, ordinal_, nullptr));
  RETURN_IF_ERROR(MakeCurrent());
  return branch;
}

absl::Status CudaDevice::Precede(Device& other) {
  return Status(table_->order(stream_, other.stream()), "order two streams");
}

absl::Status CudaDevice::Launch(uint32_t functor, const void* bytes, uint64_t n) {
  const int error = table_->launch(functor, bytes, n, stream_);
  if (error == kCudaSuccess) return absl::OkStatus();  // The usual case makes no string.
  return Status(error, absl::StrCat("launch ", Functors::kNames[functor]));
}

namespace {

class CudaGraph : public DeviceGraph {
 public:
  CudaGraph(const CudaLibraryTable* table, std::string device, void* graph)
      : table_(table), device_(std::move(device)), graph_(graph) {}
  ~CudaGraph() override { table_->destroy_graph(graph_); }
  absl::Status Replay() override {
    return CudaStatus(*table_, table_->replay(graph_), absl::StrCat(device_, ": replay a graph"));
  }

 private:
  const CudaLibraryTable* const table_;
  const std::string device_;
  void* const graph_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceGraph>> CudaDevice::Record(
    absl::FunctionRef<absl::Status()> queue) {
  void* graph = nullptr;
  RETURN_IF_ERROR(Status(table_->begin_recording(&graph), "begin to record a graph"));
  auto recorded = std::make_unique<CudaGraph>(table_, name(), graph);
  absl::Status queued;
  try {
    queued = queue();
  } catch (...) {
    // It ends on the stream on which it began.
    (void)MakeCurrent();
    // LibTorch's allocator would never free anything again.
    const absl::Status ended = Status(table_->end_recording(graph), "end a recording");
    if (!ended.ok()) TellBrokenCuda(ended);
    throw;
  }
  const absl::Status ended = Status(table_->end_recording(graph), "record a graph");
  RETURN_IF_ERROR(queued);
  RETURN_IF_ERROR(ended);
  return recorded;
}

absl::StatusOr<bool> CudaDevice::Idle() {
  const int error = table_->query(stream_);
  if (error == kCudaNotReady) return false;
  RETURN_IF_ERROR(Status(error, "work that was queued"));
  return true;
}

absl::Status CudaDevice::Finish() {
  return Status(table_->synchronize(stream_), "work that was queued");
}

absl::Status CudaDevice::Status(int error, const std::string& what) const {
  if (error == kCudaSuccess) return absl::OkStatus();
  const absl::Status status = CudaStatus(*table_, error, absl::StrCat(name(), ": ", what));
  if (Broken(error)) TellBrokenCuda(status);
  return status;
}

}  // namespace dermis
