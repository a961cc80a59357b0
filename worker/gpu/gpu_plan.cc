#include "worker/gpu/gpu_plan.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/gpu/gpu_network.h"
#include "worker/models/model.h"
#include "worker/models/resnet.h"

namespace dermis {
namespace {

// Enough images to fill a device; their inputs take 8 MB, or 64 images.
uint32_t BatchOf(uint32_t size) {
  const uint64_t bytes = uint64_t{size} * size * 3 * sizeof(float);
  return static_cast<uint32_t>(std::clamp<uint64_t>((8u << 20) / bytes / 64 * 64, 64, 1024));
}

// The file may hold weights alone: then their shapes say what is missing.
absl::StatusOr<Model> WeightsOf(std::string_view bytes, v1::ModelKind kind, uint32_t size) {
  ASSIGN_OR_RETURN(const SafetensorsView file, ParseSafetensors(bytes));
  const bool resnet = IsResNet(kind);
  const auto bias = file.tensors.find(resnet ? "fc.bias" : "dense.bias"),
             stem = file.tensors.find(resnet ? "conv1.weight" : "conv1.bias");
  if (bias == file.tensors.end() || stem == file.tensors.end() || bias->second.shape.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model file holds no weights of a ", ModelName(kind)));
  }
  const bool pooled = stem->second.shape.back() == 7;
  Model model;
  ASSIGN_OR_RETURN(model.layout,
                   LayoutOf(kind, size, static_cast<uint32_t>(bias->second.shape[0]),
                            !resnet   ? v1::STEM_UNSPECIFIED
                            : pooled ? v1::STEM_IMAGENET
                                      : v1::STEM_SMALL));
  RETURN_IF_ERROR(ReadTensors(file, model.layout.parameters, "", model.parameters));
  RETURN_IF_ERROR(ReadTensors(file, model.layout.statistics, "", model.statistics));
  return model;
}

}  // namespace

// On the device, used by one thread at a time.
class GpuPlans::Network {
 public:
  Network(std::unique_ptr<Device> device, const Model& model, uint32_t batch)
      : device_(std::move(device)),
        classes_(model.layout.classes),
        size_(model.layout.size),
        batch_(batch > 0 ? batch : BatchOf(size_)) {}
  ~Network() {
    (void)device_->Finish();
    graph_.reset();
    network_.reset();
    map_.reset();
    device_->ReleaseCache();
    for (float* memory : {parameters_, statistics_, input_, logits_}) {
      if (memory != nullptr) device_->Free(memory);
    }
  }

  absl::Status Prepare(const Model& model, v1::Precision precision) {
    ASSIGN_OR_RETURN(network_, MakeGpuNetwork(*device_, model.layout, precision));
    ASSIGN_OR_RETURN(parameters_, Upload(model.parameters));
    ASSIGN_OR_RETURN(statistics_, Upload(model.statistics));
    const std::vector<float> zeros(batch_ * image());
    ASSIGN_OR_RETURN(input_, Upload(zeros));
    ASSIGN_OR_RETURN(logits_, New(uint64_t{batch_} * classes_));
    RETURN_IF_ERROR(network_->SetWeights(parameters_));
    RETURN_IF_ERROR(network_->SetRunning(statistics_));
    map_ = network_->NewInput(batch_);
    // Once before it is recorded: libraries load and choose.
    const uint64_t failures = device_->MemoryFailures();
    RETURN_IF_ERROR(Queue());
    RETURN_IF_ERROR(device_->Finish());
    ASSIGN_OR_RETURN(graph_, device_->Record([this] { return Queue(); }));
    return CheckMemory(*device_, failures);
  }

  uint32_t classes() const { return classes_; }
  uint32_t size() const { return size_; }
  uint32_t batch() const { return batch_; }
  uint64_t image() const { return uint64_t{size_} * size_ * 3; }

  // What the file says of pixels, for all of its plans.
  void SetPixelFacts(std::optional<InferencePlan::PixelFacts> facts) { pixel_facts_ = facts; }
  const std::optional<InferencePlan::PixelFacts>& pixel_facts() const { return pixel_facts_; }

  // Both of the host's memory for the device (Device::AllocateHost).
  absl::Status Run(uint32_t count, const float* input, float* logits) {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(device_->MakeCurrent());
    RETURN_IF_ERROR(device_->Copy(input_, input, count * image() * sizeof(float)));
    RETURN_IF_ERROR(graph_ != nullptr ? graph_->Replay() : Queue());
    RETURN_IF_ERROR(device_->Copy(logits, logits_, uint64_t{count} * classes_ * sizeof(float)));
    return device_->Finish();
  }

  absl::StatusOr<float*> NewHost(uint64_t floats) {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(device_->MakeCurrent());
    ASSIGN_OR_RETURN(void* const memory, device_->AllocateHost(floats * sizeof(float)));
    std::fill_n(static_cast<float*>(memory), floats, 0.0f);
    return static_cast<float*>(memory);
  }
  void FreeHost(float* memory) {
    absl::MutexLock lock(&mutex_);
    if (memory != nullptr) device_->FreeHost(memory);
  }

 private:
  absl::StatusOr<float*> New(uint64_t floats) {
    ASSIGN_OR_RETURN(void* const memory, device_->Allocate(floats * sizeof(float)));
    return static_cast<float*>(memory);
  }
  absl::StatusOr<float*> Upload(const std::vector<float>& values) {
    ASSIGN_OR_RETURN(float* const there, New(values.size()));
    RETURN_IF_ERROR(device_->Copy(there, values.data(), values.size() * sizeof(float)));
    RETURN_IF_ERROR(device_->Finish());
    return there;
  }

  absl::Status Queue() {
    const uint64_t values = batch_ * image();
    RETURN_IF_ERROR(
        network_->bf16()
            ? device_->Run(Convert<Bf16>{input_, static_cast<Bf16*>(map_.data_ptr())}, values)
            : device_->Run(Convert<float>{input_, static_cast<float*>(map_.data_ptr())}, values));
    return network_->Evaluate(map_, logits_);
  }

  absl::Mutex mutex_;  // Held over all use of the device once it is prepared.
  const std::unique_ptr<Device> device_;
  const uint32_t classes_, size_, batch_;
  float *parameters_ = nullptr, *statistics_ = nullptr, *input_ = nullptr, *logits_ = nullptr;
  torch::Tensor map_;
  std::optional<InferencePlan::PixelFacts> pixel_facts_;  // Set before a second plan is made.
  std::unique_ptr<GpuNetwork> network_;
  std::unique_ptr<DeviceGraph> graph_;
};

// A thread's inputs, for a network that is shared.
class GpuPlans::Plan final : public InferencePlan {
 public:
  explicit Plan(std::shared_ptr<Network> network) : network_(std::move(network)) {
    if (network_->pixel_facts().has_value()) SetPixelFacts(*network_->pixel_facts());
  }
  ~Plan() override {
    network_->FreeHost(input_);
    network_->FreeHost(logits_);
  }

  absl::Status Prepare() {
    ASSIGN_OR_RETURN(input_, network_->NewHost(max_batch() * network_->image()));
    ASSIGN_OR_RETURN(logits_, network_->NewHost(uint64_t{max_batch()} * classes()));
    return absl::OkStatus();
  }

  uint32_t classes() const override { return network_->classes(); }
  uint32_t size() const override { return network_->size(); }
  uint32_t max_batch() const override { return network_->batch(); }
  float* input() override { return input_; }

  absl::Status Run(uint32_t count, float* logits) override {
    if (count > max_batch()) {
      return absl::InvalidArgumentError(
          absl::StrCat("inference plan: batch of ", count, ", at most ", max_batch()));
    }
    RETURN_IF_ERROR(network_->Run(count, input_, logits_));
    std::copy_n(logits_, uint64_t{count} * classes(), logits);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<Network> network_;
  float *input_ = nullptr, *logits_ = nullptr;
};

absl::StatusOr<std::unique_ptr<InferencePlan>> GpuPlans::Make(v1::ModelKind kind,
                                                              std::string_view weights,
                                                              uint32_t size,
                                                              v1::Precision precision) {
  // While one thread prepares a network, others that want it wait instead of making their own.
  absl::MutexLock lock(&mutex_);
  std::erase_if(networks_, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<Network>& known = networks_[{Sha256Of(weights), kind, size, precision}];
  if (std::shared_ptr<Network> network = known.lock(); network != nullptr) {
    auto plan = std::make_unique<Plan>(std::move(network));
    RETURN_IF_ERROR(plan->Prepare());
    return plan;
  }
  ASSIGN_OR_RETURN(const Model model, WeightsOf(weights, kind, size));
  ASSIGN_OR_RETURN(std::unique_ptr<Device> device, open_());
  auto network = std::make_shared<Network>(std::move(device), model, batch_);
  RETURN_IF_ERROR(network->Prepare(model, precision));
  auto plan = std::make_unique<Plan>(network);
  RETURN_IF_ERROR(plan->Prepare());
  // Once a network: the comparison costs more than many batches.
  const absl::Status checked = CheckInferencePlan(kind, weights, size, precision, *plan);
  // A GPU that computes wrong says nothing about the task.
  if (absl::IsInternal(checked)) return absl::UnavailableError(checked.message());
  RETURN_IF_ERROR(checked);
  network->SetPixelFacts(plan->pixel_facts());
  known = network;
  return plan;
}

}  // namespace dermis
