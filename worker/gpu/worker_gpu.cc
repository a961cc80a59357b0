#include "worker/gpu/worker_gpu.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

#include "common/digest.h"
#include "common/log.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "worker/cuda/cuda_device.h"
#include "worker/cuda/nccl_collective.h"
#include "worker/gpu/gpu_engine.h"
#include "worker/gpu/gpu_network.h"
#include "worker/models/model.h"

namespace dermis {
namespace {

// Images of a training that lie on the GPU take this share of its memory at most.
constexpr double kImageShare = 0.25;

// Fixed numbers in [-1, 1).
float Number(uint64_t index, uint64_t i) {
  const auto words = PhiloxBlock(0, Purpose::kTest, index, 0, static_cast<uint32_t>(i));
  return 2 * ToUnitFloat(words[0]) - 1;
}

Model CanaryModel(v1::ModelKind kind, v1::Stem stem) {
  Model model;
  model.layout = *LayoutOf(kind, 32, 2, stem);
  model.pixel_mean = 127;
  model.pixel_deviation = 64;
  InitializeModel(1, model);
  return model;
}

// A training step and an evaluation of a network: every kind of kernel that tasks run.
absl::Status HashNetwork(Device& device, const Model& model, v1::Precision precision,
                         Sha256& hash) {
  constexpr uint32_t kBatch = 16;
  const ModelLayout& layout = model.layout;
  ASSIGN_OR_RETURN(const std::unique_ptr<GpuNetwork> network,
                   MakeGpuNetwork(device, layout, precision));
  const auto upload = [&](const auto& values) {
    return torch::tensor(values).to(TorchDevice(device));
  };
  const torch::Tensor parameters = upload(model.parameters), running = upload(model.statistics);
  const torch::Tensor labels = upload(std::vector<int32_t>{0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1});
  const torch::TensorOptions options(TorchDevice(device));
  const auto make = [&](uint64_t n, torch::ScalarType type) {
    return torch::empty({static_cast<int64_t>(n)}, options.dtype(type));
  };
  const torch::Tensor gradients = make(layout.parameter_count, torch::kFloat32),
                      statistics = make(layout.statistic_count, torch::kFloat64),
                      losses = make(kBatch, torch::kFloat64), correct = make(kBatch, torch::kInt32),
                      logits = make(kBatch * 2, torch::kFloat32);
  const DeviceStep step = {0, 1.0f / kBatch};
  const torch::Tensor device_step =
      torch::from_blob(const_cast<DeviceStep*>(&step), {sizeof(step)}, torch::kUInt8)
          .to(TorchDevice(device));
  const torch::Tensor input = network->NewInput(kBatch);
  std::vector<float> values(static_cast<size_t>(input.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = Number(1, i);
  input.permute({0, 2, 3, 1}).copy_(
      torch::from_blob(values.data(), {kBatch, layout.size, layout.size, 3}));
  RETURN_IF_ERROR(network->SetWeights(parameters.data_ptr<float>()));
  RETURN_IF_ERROR(network->SetRunning(running.data_ptr<float>()));
  const auto* const label_data = static_cast<const uint32_t*>(labels.data_ptr());
  RETURN_IF_ERROR(network->Train(
      {input, label_data, label_data, static_cast<const DeviceStep*>(device_step.data_ptr())},
      uint64_t{1},
      {gradients.data_ptr<float>(), statistics.data_ptr<double>(), losses.data_ptr<double>(),
       static_cast<uint32_t*>(correct.data_ptr())}));
  RETURN_IF_ERROR(network->Evaluate(input, logits.data_ptr<float>()));
  RETURN_IF_ERROR(device.Finish());
  for (const torch::Tensor& tensor : {gradients, statistics, losses, logits}) {
    const torch::Tensor here = tensor.cpu();
    hash.Update(here.data_ptr(), here.nbytes());
  }
  return absl::OkStatus();
}

absl::StatusOr<Digest> Canary(const CudaLibrary& library, int ordinal) {
  try {
    ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, library.Open(ordinal));
    Sha256 hash;
    for (const Model& model : {CanaryModel(v1::MODEL_KIND_SEED_CNN, v1::STEM_UNSPECIFIED),
                               CanaryModel(v1::MODEL_KIND_RESNET18, v1::STEM_IMAGENET)}) {
      for (const v1::Precision precision : {v1::PRECISION_FP32, v1::PRECISION_BF16}) {
        RETURN_IF_ERROR(HashNetwork(*device, model, precision, hash));
      }
    }
    return hash.Finish();
  } catch (const std::exception& error) {
    return absl::UnavailableError(
        absl::StrCat("GPU ", ordinal, ": the canary computation failed: ", error.what()));
  }
}

std::string BootId() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(in, id);
  return id;
}

// An engine and what it stands on, in the order in which they are made.
class OwningEngine final : public StepEngine {
 public:
  explicit OwningEngine(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  absl::Status Make(EngineSetting setting, std::shared_ptr<const NcclApi> nccl,
                    uint64_t image_memory) {
    GpuEngineOptions options = {.image_memory = image_memory};
    if (nccl == nullptr) {
      ASSIGN_OR_RETURN(engine_, MakeGpuEngine(*device_, setting, options));
      return absl::OkStatus();
    }
    // The collective outlives the engine: it is the caller's.
    const std::shared_ptr<Collective> control(std::shared_ptr<Collective>(), &setting.collective);
    ASSIGN_OR_RETURN(exchange_, device_->Branch());
    options.collective_device = exchange_.get();
    ASSIGN_OR_RETURN(
        nccl_, NcclCollective::Create(std::move(nccl), exchange_.get(), control,
                                      {.reduction = setting.recipe.reduction() == v1::REDUCTION_FAST
                                                        ? NcclReduction::kFast
                                                        : NcclReduction::kOrdered}));
    const EngineSetting over = {setting.recipe,  setting.data, *nccl_,          setting.pool,
                                setting.threads, setting.loss, setting.progress};
    ASSIGN_OR_RETURN(engine_, MakeGpuEngine(*device_, over, options));
    return absl::OkStatus();
  }

  absl::Status Load(TrainingState& state) override { return engine_->Load(state); }
  absl::Status Save() override { return engine_->Save(); }
  absl::Status Run(const StepInputs& inputs, std::vector<ShardOutcome>& outcomes) override {
    return engine_->Run(inputs, outcomes);
  }
  absl::StatusOr<std::vector<PassResult>> Validate(uint32_t first, uint32_t count) override {
    return engine_->Validate(first, count);
  }

 private:
  const std::unique_ptr<Device> device_;
  std::unique_ptr<Device> exchange_;  // A stream beside the one that computes.
  std::unique_ptr<NcclCollective> nccl_;
  std::unique_ptr<StepEngine> engine_;
};

// Whether this gang's ranks can exchange by NCCL: they all come to the same answer.
absl::StatusOr<bool> AllHaveNccl(Collective& gang, const NcclApi* nccl,
                                 const CudaDeviceFacts& facts) {
  const std::string version = nccl == nullptr ? "" : NcclVersionName(nccl->version);
  ASSIGN_OR_RETURN(const std::vector<std::string> all,
                   gang.AllGather(absl::StrCat(version, " ", BootId(), " ", facts.bus)));
  std::set<std::string> places;
  bool same = nccl != nullptr;
  for (const std::string& theirs : all) {
    same = same && theirs.substr(0, theirs.find(' ')) == version;
    places.insert(theirs);
  }
  // NCCL refuses two ranks on one GPU.
  return same && places.size() == all.size();
}

}  // namespace

WorkerGpu::WorkerGpu(std::shared_ptr<const CudaLibrary> library, int ordinal,
                     const CudaDeviceFacts& facts)
    : library_(std::move(library)),
      ordinal_(ordinal),
      facts_(facts),
      plans_(std::make_shared<GpuPlans>(
          [gpu = library_, ordinal] { return gpu->Open(ordinal); })) {
  auto nccl = NcclApi::Load();
  if (nccl.ok()) {
    nccl_ = *std::move(nccl);
  } else {
    nccl_absence_ = std::string(nccl.status().message());
  }
}

absl::StatusOr<std::unique_ptr<WorkerGpu>> WorkerGpu::Open(int ordinal, double memory_share) {
  ASSIGN_OR_RETURN(std::shared_ptr<const CudaLibrary> library, FindGpus());
  ASSIGN_OR_RETURN(const int count, library->device_count());
  if (ordinal < 0 || ordinal >= count) {
    return absl::NotFoundError(
        absl::StrCat("there is no gpu:", ordinal, ": this machine shows ", count, " (gpu:0 to gpu:",
                     count - 1, "); CUDA_VISIBLE_DEVICES may hide others"));
  }
  ASSIGN_OR_RETURN(const CudaDeviceFacts facts, library->Facts(ordinal));
  RETURN_IF_ERROR(library->LimitMemory(ordinal, memory_share));
  OnBrokenCuda([](const absl::Status& cause) {
    DERMIS_LOG(kError, "this process ends, for a new one to begin: ", cause.message());
    std::cerr.flush();
    std::_Exit(1);
  });
  PrepareGpuNumerics();
  return std::unique_ptr<WorkerGpu>(new WorkerGpu(std::move(library), ordinal, facts));
}

std::string WorkerGpu::description() const {
  return absl::StrCat(
      facts_.name, ", ", facts_.memory >> 30, " GiB, ",
      nccl_ != nullptr ? absl::StrCat("NCCL ", NcclVersionName(nccl_->version))
                       : absl::StrCat("no NCCL (", nccl_absence_, "): gangs exchange by the mesh"));
}

absl::StatusOr<std::string> WorkerGpu::NumericsClass(const std::string& of_processor) const {
  // Each in a thread of its own, as tasks are.
  absl::StatusOr<Digest> first = absl::InternalError("did not run"), second = first;
  std::thread([&] { first = Canary(*library_, ordinal_); }).join();
  std::thread([&] { second = Canary(*library_, ordinal_); }).join();
  RETURN_IF_ERROR(first.status());
  RETURN_IF_ERROR(second.status());
  if (*first != *second) {
    return absl::InternalError(
        absl::StrCat("GPU ", ordinal_, " (", facts_.name, "): the canary computation gave two ",
                     "results in two runs (", first->short_hex(), " and ", second->short_hex(),
                     "): its arithmetic cannot be trusted; run the worker with --device cpu"));
  }
  return absl::StrCat(absl::StrFormat("cuda/%s/sm_%d%dx%d/cuda-%d.%d/cudnn-%d.%d.%d/",
                                      absl::StrReplaceAll(facts_.name, {{" ", "_"}, {"/", "_"}}),
                                      facts_.major, facts_.minor, facts_.multiprocessors, facts_.runtime / 1000,
                                      facts_.runtime % 1000 / 10, facts_.cudnn / 10000,
                                      facts_.cudnn / 100 % 100, facts_.cudnn % 100),
                      absl::StripPrefix(of_processor, "cpu/"), "/", first->hex().substr(0, 16));
}

EngineFactory WorkerGpu::Engines() const {
  return [this](const EngineSetting& setting) -> absl::StatusOr<std::unique_ptr<StepEngine>> {
    ASSIGN_OR_RETURN(std::unique_ptr<Device> device, library_->Open(ordinal_));
    auto engine = std::make_unique<OwningEngine>(std::move(device));
    std::shared_ptr<const NcclApi> nccl;
    if (setting.collective.world_size() > 1) {
      ASSIGN_OR_RETURN(const bool all, AllHaveNccl(setting.collective, nccl_.get(), facts_));
      if (all) nccl = nccl_;
      DERMIS_LOG(kDebug, "the gang exchanges by ", all ? "NCCL" : "the mesh");
    }
    RETURN_IF_ERROR(engine->Make(
        setting, nccl, static_cast<uint64_t>(kImageShare * static_cast<double>(facts_.memory))));
    return engine;
  };
}

PlanMaker WorkerGpu::Plans() const {
  return [plans = plans_](v1::ModelKind kind, std::string_view weights, uint32_t size,
                          v1::Precision precision) {
    return plans->Make(kind, weights, size, precision);
  };
}

}  // namespace dermis
