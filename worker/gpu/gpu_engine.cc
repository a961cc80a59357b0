#include "worker/gpu/gpu_engine.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/cuda/tree_sum_list.h"
#include "worker/gpu/gpu_network.h"
#include "worker/training/augmentation.h"
#include "worker/training/optimizer.h"

namespace dermis {
namespace {

// Shards that are computed side by side, each on a stream of its own: one alone leaves much of a
// GPU idle.
constexpr uint32_t kLanes = 4;
// Threads that add up squares for the gradient's norm.
constexpr uint64_t kNormThreads = 65536;

// Memory of a device or of its host's side, by arrays one behind the other.
class Block {
 public:
  template <typename T>
  uint64_t Reserve(uint64_t count) {
    constexpr uint64_t kAlign = 256;
    const uint64_t at = bytes_;
    bytes_ += (count * sizeof(T) + kAlign - 1) / kAlign * kAlign;
    return at;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_ = 0;
};

template <typename T>
T* At(void* base, uint64_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(base) + offset);
}

class GpuEngine final : public StepEngine {
 public:
  GpuEngine(Device& device, const EngineSetting& setting, const GpuEngineOptions& options)
      : device_(device),
        setting_(setting),
        options_(options),
        recipe_(setting.recipe),
        data_(setting.data),
        shards_(setting.collective.shard_count()),
        shard_batch_(recipe_.batch_size() / recipe_.logical_shards()),
        slots_(std::max(shards_ * shard_batch_, kValidationBatch)),
        ranges_(RangesOf(recipe_.augmentation())),
        normalise_(NormalisationOf(data_)) {
    for (uint32_t k = 0; k < shards_; ++k) leaves_.push_back({k, 1});
  }
  ~GpuEngine() override {
    // What was queued uses what is freed now.
    (void)device_.Finish();
    if (exchange_ != nullptr) (void)exchange_->Finish();
    graphs_.clear();
    lanes_.clear();
    networks_.clear();
    device_.ReleaseCache();
    for (void* memory : host_memory_) device_.FreeHost(memory);
    for (void* memory : memory_) device_.Free(memory);
  }

  absl::Status Load(TrainingState& state) override;
  absl::Status Save() override;
  absl::Status Run(const StepInputs& inputs, std::vector<ShardOutcome>& outcomes) override;
  absl::StatusOr<std::vector<PassResult>> Validate(uint32_t first, uint32_t count) override;

 private:
  template <typename T>
  absl::StatusOr<T*> New(uint64_t count) {
    ASSIGN_OR_RETURN(void* memory, device_.Allocate(std::max<uint64_t>(count * sizeof(T), 1)));
    memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <typename T>
  absl::StatusOr<T*> NewHost(uint64_t count) {
    ASSIGN_OR_RETURN(void* memory, device_.AllocateHost(std::max<uint64_t>(count * sizeof(T), 1)));
    host_memory_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <typename T>
  absl::StatusOr<T*> Upload(const std::vector<T>& values) {
    ASSIGN_OR_RETURN(T * there, New<T>(values.size()));
    RETURN_IF_ERROR(device_.Copy(there, values.data(), values.size() * sizeof(T)));
    RETURN_IF_ERROR(device_.Finish());
    return there;
  }

  absl::Status MakeImages();
  // Which images come next, in the places of `ins_`; uploads what the device needs of them.
  absl::Status Take(absl::Span<const uint32_t> images, bool augment, const StepInputs& inputs);
  struct Lane {
    Device* device;
    GpuNetwork* network;
    torch::Tensor input;
  };
  absl::Status MakeLanes();
  absl::Status Augmented(Device& device, const torch::Tensor& input, uint32_t first,
                         uint32_t count);
  // Parts [first, last) of the networks' passes (GpuNetwork::parts).
  struct Parts {
    uint32_t first, last;
  };
  absl::Status QueueShard(const Lane& lane, uint32_t k, Parts parts);
  absl::Status QueueShards(Parts parts);
  absl::Status Compute(size_t piece);
  absl::Status SumHere();
  absl::Status Exchange(size_t piece);
  absl::Status Clip();
  absl::Status Update(const StepInputs& inputs);

  Device& device_;
  const EngineSetting setting_;
  const GpuEngineOptions options_;
  const v1::Recipe& recipe_;
  const ImageData& data_;
  const uint32_t shards_, shard_batch_;
  const uint32_t slots_;  // Images that are taken at once.
  const AugmentationRanges ranges_;
  const Normalisation normalise_;
  std::vector<TreeNode> leaves_;

  std::vector<void*> memory_, host_memory_;
  std::vector<std::unique_ptr<Device>> branches_;
  std::vector<std::unique_ptr<GpuNetwork>> networks_;  // The first one's weights are shared.
  GpuNetwork* network_ = nullptr;
  std::vector<Lane> lanes_;
  TrainingState* state_ = nullptr;
  bool saved_ = true;

  // What goes in: the same layout on both sides.
  struct {
    uint64_t images, labels, ids, step, bytes;
    char* host;
    char* device;
  } ins_ = {};
  // What comes out.
  struct {
    uint64_t statistics, losses, correct, bytes;
    char* host;
    char* device;
  } outs_ = {};
  bool resident_ = false;
  uint8_t* pixels_ = nullptr;       // Of all images, or of those that were taken.
  uint8_t* host_pixels_ = nullptr;  // Of those that were taken.

  float* parameters_ = nullptr;
  float* average_ = nullptr;
  std::vector<float*> optimizer_slots_;
  uint8_t* kinds_ = nullptr;
  float* running_ = nullptr;  // statistic_count
  float* logits_ = nullptr;
  std::vector<float*> gradients_;  // A shard each.
  float* reduced_ = nullptr;
  std::vector<float*> host_gradients_;  // Where the collective works on the host.
  float* host_reduced_ = nullptr;
  double* squares_ = nullptr;

  torch::Tensor validation_input_;
  uint64_t steps_ = 0;
  // A step's work in pieces: what one leaves complete is exchanged while the next one runs. One
  // alone where nothing is exchanged.
  std::vector<Parts> pieces_;
  std::vector<std::unique_ptr<DeviceGraph>> graphs_;  // A piece each.
  std::unique_ptr<Device> own_exchange_;
  Device* exchange_ = nullptr;  // The stream of exchanges; null: there are none.
};

absl::Status GpuEngine::Load(TrainingState& state) {
  state_ = &state;
  RETURN_IF_ERROR(device_.MakeCurrent());
  const ModelLayout& layout = state.model.layout;
  const uint64_t n = layout.parameter_count;
  ASSIGN_OR_RETURN(parameters_, Upload(state.model.parameters));
  for (const std::vector<float>& slot : state.slots) {
    ASSIGN_OR_RETURN(float* const there, Upload(slot));
    optimizer_slots_.push_back(there);
  }
  if (state.averaged) {
    ASSIGN_OR_RETURN(average_, Upload(state.average_parameters));
  }
  std::vector<uint8_t> kinds(n, kFrozen);
  for (const ParameterSpec& spec : layout.parameters) {
    const uint8_t kind = spec.frozen ? kFrozen : spec.decayed ? kDecayed : kOther;
    std::fill_n(kinds.begin() + static_cast<int64_t>(spec.offset), spec.count, kind);
  }
  ASSIGN_OR_RETURN(kinds_, Upload(kinds));
  ASSIGN_OR_RETURN(running_, Upload(state.model.statistics));
  for (uint32_t k = 0; k < shards_; ++k) {
    ASSIGN_OR_RETURN(float* const gradient, New<float>(n));
    gradients_.push_back(gradient);
  }
  if (setting_.collective.logical_shards() == 1) {
    reduced_ = gradients_[0];
  } else {
    ASSIGN_OR_RETURN(reduced_, New<float>(n));
  }
  if (setting_.collective.world_size() > 1) {
    exchange_ = options_.collective_device;
    if (exchange_ == nullptr) {
      ASSIGN_OR_RETURN(own_exchange_, device_.Branch());
      exchange_ = own_exchange_.get();
    }
  }
  if (own_exchange_ != nullptr) {
    for (uint32_t k = 0; k < shards_; ++k) {
      ASSIGN_OR_RETURN(float* const gradient, NewHost<float>(n));
      host_gradients_.push_back(gradient);
    }
    ASSIGN_OR_RETURN(host_reduced_, NewHost<float>(n));
  }
  if (recipe_.clip_norm() > 0) {
    ASSIGN_OR_RETURN(squares_, New<double>(2 * kNormThreads));
  }
  ASSIGN_OR_RETURN(logits_, New<float>(uint64_t{kValidationBatch} * layout.classes));

  Block ins;
  ins_.images = ins.Reserve<AugmentPixel>(slots_);
  ins_.labels = ins.Reserve<uint32_t>(slots_);
  ins_.ids = ins.Reserve<uint32_t>(slots_);
  ins_.step = ins.Reserve<DeviceStep>(1);
  ins_.bytes = ins.bytes();
  ASSIGN_OR_RETURN(ins_.device, New<char>(ins_.bytes));
  ASSIGN_OR_RETURN(ins_.host, NewHost<char>(ins_.bytes));
  std::memset(ins_.host, 0, ins_.bytes);
  Block outs;
  outs_.statistics = outs.Reserve<double>(shards_ * layout.statistic_count);
  outs_.losses = outs.Reserve<double>(slots_);
  outs_.correct = outs.Reserve<uint32_t>(slots_);
  outs_.bytes = outs.bytes();
  ASSIGN_OR_RETURN(outs_.device, New<char>(outs_.bytes));
  ASSIGN_OR_RETURN(outs_.host, NewHost<char>(outs_.bytes));
  RETURN_IF_ERROR(MakeImages());

  return MakeLanes();
}

absl::Status GpuEngine::MakeLanes() {
  const ModelLayout& layout = state_->model.layout;
  for (uint32_t k = 0; k < std::min(shards_, kLanes); ++k) {
    Device* device = &device_;
    if (k > 0) {
      ASSIGN_OR_RETURN(std::unique_ptr<Device> branch, device_.Branch());
      device = branch.get();
      branches_.push_back(std::move(branch));
    }
    ASSIGN_OR_RETURN(std::unique_ptr<GpuNetwork> network,
                     MakeGpuNetwork(*device, layout, recipe_.precision(), setting_.loss));
    lanes_.push_back({device, network.get(), network->NewInput(shard_batch_)});
    networks_.push_back(std::move(network));
  }
  network_ = networks_[0].get();
  validation_input_ = network_->NewInput(kValidationBatch);
  RETURN_IF_ERROR(network_->SetWeights(parameters_));
  RETURN_IF_ERROR(network_->SetRunning(running_));
  for (size_t k = 1; k < networks_.size(); ++k) networks_[k]->Share(*network_);
  const uint32_t parts = static_cast<uint32_t>(network_->parts().size());
  if (exchange_ == nullptr) {
    pieces_.push_back({0, parts});
  } else {
    for (uint32_t part = 0; part < parts; ++part) pieces_.push_back({part, part + 1});
  }
  graphs_.resize(pieces_.size());
  return absl::OkStatus();
}

absl::Status GpuEngine::MakeImages() {
  const uint64_t all = data_.pixels.size();
  resident_ = data_.chunks == nullptr && all <= options_.image_memory;
  if (resident_) {
    const absl::StatusOr<uint8_t*> there = New<uint8_t>(all);
    if (there.ok()) {
      pixels_ = *there;
      RETURN_IF_ERROR(device_.Copy(pixels_, data_.pixels.data(), all));
      return device_.Finish();
    }
    // Where images lie decides no bits.
    if (!absl::IsResourceExhausted(there.status())) return there.status();
    resident_ = false;
  }
  ASSIGN_OR_RETURN(pixels_, New<uint8_t>(slots_ * data_.image_bytes()));
  ASSIGN_OR_RETURN(host_pixels_, NewHost<uint8_t>(slots_ * data_.image_bytes()));
  return absl::OkStatus();
}

absl::Status GpuEngine::Save() {
  if (saved_) return absl::OkStatus();
  const auto read = [&](std::vector<float>& to, const float* from) {
    return device_.Copy(to.data(), from, to.size() * sizeof(float));
  };
  RETURN_IF_ERROR(read(state_->model.parameters, parameters_));
  for (size_t k = 0; k < optimizer_slots_.size(); ++k) {
    RETURN_IF_ERROR(read(state_->slots[k], optimizer_slots_[k]));
  }
  if (average_ != nullptr) RETURN_IF_ERROR(read(state_->average_parameters, average_));
  RETURN_IF_ERROR(device_.Finish());
  saved_ = true;
  return absl::OkStatus();
}

absl::Status GpuEngine::Take(absl::Span<const uint32_t> images, bool augment,
                             const StepInputs& inputs) {
  AugmentPixel* const pixels = At<AugmentPixel>(ins_.host, ins_.images);
  uint32_t* const labels = At<uint32_t>(ins_.host, ins_.labels);
  uint32_t* const ids = At<uint32_t>(ins_.host, ins_.ids);
  const size_t bytes = data_.image_bytes();
  for (size_t i = 0; i < images.size(); ++i) {
    const uint32_t image = images[i];
    labels[i] = data_.labels[image];
    ids[i] = image;
    const Augmentation augmentation =
        augment ? DrawAugmentation(ranges_, recipe_.seed(), inputs.epoch, image, data_.size)
                : Augmentation();
    ASSIGN_OR_RETURN(const PinnedImage pinned, data_.Pin(image));
    pixels[i] = MakeAugmentPixel(pinned.data(), data_.size, augmentation, normalise_, nullptr);
    if (!resident_) std::memcpy(host_pixels_ + i * bytes, pinned.data(), bytes);
    pixels[i].pixels = pixels_ + (resident_ ? uint64_t{image} : i) * bytes;
  }
  // What lies in the places that are not used is computed, too, and never looked at.
  for (size_t i = images.size(); i < slots_; ++i) pixels[i] = pixels[0];
  *At<DeviceStep>(ins_.host, ins_.step) = {static_cast<uint32_t>(inputs.step), inputs.loss_scale};
  if (!resident_) RETURN_IF_ERROR(device_.Copy(pixels_, host_pixels_, images.size() * bytes));
  return device_.Copy(ins_.device, ins_.host, ins_.bytes);
}

absl::Status GpuEngine::Augmented(Device& device, const torch::Tensor& input, uint32_t first,
                                  uint32_t count) {
  const AugmentPixel* const images = At<AugmentPixel>(ins_.device, ins_.images) + first;
  const uint64_t n = uint64_t{count} * data_.size * data_.size;
  if (network_->bf16()) {
    return device.Run(
        AugmentImages<Bf16>{images, data_.size, static_cast<Bf16*>(input.data_ptr())}, n);
  }
  return device.Run(
      AugmentImages<float>{images, data_.size, static_cast<float*>(input.data_ptr())}, n);
}

absl::Status GpuEngine::QueueShard(const Lane& lane, uint32_t k, Parts parts) {
  const uint64_t statistics = state_->model.layout.statistic_count;
  const uint32_t first = k * shard_batch_;
  RETURN_IF_ERROR(lane.device->MakeCurrent());
  if (parts.first == 0) RETURN_IF_ERROR(Augmented(*lane.device, lane.input, first, shard_batch_));
  const TrainBatch batch = {lane.input, At<uint32_t>(ins_.device, ins_.labels) + first,
                            At<uint32_t>(ins_.device, ins_.ids) + first,
                            At<DeviceStep>(ins_.device, ins_.step)};
  const TrainOutputs outputs = {gradients_[k],
                                At<double>(outs_.device, outs_.statistics) + k * statistics,
                                At<double>(outs_.device, outs_.losses) + first,
                                At<uint32_t>(outs_.device, outs_.correct) + first};
  const std::optional<uint64_t> dropout =
      recipe_.dropout() ? std::optional<uint64_t>(recipe_.seed()) : std::nullopt;
  for (uint32_t part = parts.first; part < parts.last; ++part) {
    RETURN_IF_ERROR(lane.network->TrainPart(part, batch, dropout, outputs));
  }
  return absl::OkStatus();
}

absl::Status GpuEngine::QueueShards(Parts parts) {
  if (parts.first == 0) RETURN_IF_ERROR(network_->SetWeights(parameters_));
  for (const std::unique_ptr<Device>& branch : branches_) {
    RETURN_IF_ERROR(device_.Precede(*branch));
  }
  const auto join = [this] {
    absl::Status joined;
    for (const std::unique_ptr<Device>& branch : branches_) {
      const absl::Status status = branch->Precede(device_);
      if (joined.ok()) joined = status;
    }
    const absl::Status current = device_.MakeCurrent();
    return joined.ok() ? current : joined;
  };
  // Whatever happens: a recording ends where it began, with all that it forked.
  absl::Cleanup always = [&] { (void)join(); };
  const uint32_t lanes = static_cast<uint32_t>(lanes_.size());
  for (uint32_t k = 0; k < shards_; ++k) {
    // Only a lane's last shard is computed in parts: those before it need its memory.
    const bool last = k + lanes >= shards_;
    if (!last && parts.first > 0) continue;
    const uint32_t all = static_cast<uint32_t>(network_->parts().size());
    RETURN_IF_ERROR(QueueShard(lanes_[k % lanes], k, last ? parts : Parts{0, all}));
  }
  std::move(always).Cancel();
  return join();
}

absl::Status GpuEngine::Compute(size_t piece) {
  RETURN_IF_ERROR(device_.MakeCurrent());
  // The first time libraries load and choose; then the work is known.
  if (steps_ == 1) {
    RETURN_IF_ERROR(device_.Finish());
    ASSIGN_OR_RETURN(graphs_[piece],
                     device_.Record([&] { return QueueShards(pieces_[piece]); }));
  }
  return graphs_[piece] != nullptr ? graphs_[piece]->Replay() : QueueShards(pieces_[piece]);
}

// Of a gang of one.
absl::Status GpuEngine::SumHere() {
  if (reduced_ == gradients_[0]) return absl::OkStatus();
  ASSIGN_OR_RETURN(const TreeSum sum,
                   MakeTreeSum(leaves_, {gradients_.begin(), gradients_.end()}, reduced_));
  return device_.Run(sum, state_->model.layout.parameter_count);
}

// The gradients that are complete with this piece, on the stream of exchanges, which comes after it.
absl::Status GpuEngine::Exchange(size_t piece) {
  const std::vector<uint64_t>& begins = network_->parts();
  const uint64_t begin = begins[piece];
  const uint64_t n =
      (piece == 0 ? state_->model.layout.parameter_count : begins[piece - 1]) - begin;
  const auto from = [begin](const std::vector<float*>& shards) {
    std::vector<float*> moved;
    for (float* shard : shards) moved.push_back(shard + begin);
    return moved;
  };
  if (own_exchange_ == nullptr) {
    return setting_.collective.OrderedReduce(from(gradients_), n, reduced_ + begin);
  }
  for (uint32_t k = 0; k < shards_; ++k) {
    RETURN_IF_ERROR(
        exchange_->Copy(host_gradients_[k] + begin, gradients_[k] + begin, n * sizeof(float)));
  }
  RETURN_IF_ERROR(exchange_->Finish());
  RETURN_IF_ERROR(
      setting_.collective.OrderedReduce(from(host_gradients_), n, host_reduced_ + begin));
  return exchange_->Copy(reduced_ + begin, host_reduced_ + begin, n * sizeof(float));
}

absl::Status GpuEngine::Clip() {
  const uint64_t n = state_->model.layout.parameter_count;
  double *sums = squares_, *folded = squares_ + kNormThreads;
  RETURN_IF_ERROR(device_.Run(SquareSums{reduced_, n, kNormThreads, sums}, kNormThreads));
  for (uint64_t count = kNormThreads; count > 1; count = (count + kFold - 1) / kFold) {
    RETURN_IF_ERROR(device_.Run(FoldSums{sums, count, 1, folded}, (count + kFold - 1) / kFold));
    std::swap(sums, folded);
  }
  return device_.Run(ClipScale{sums, recipe_.clip_norm(), reduced_}, n);
}

absl::Status GpuEngine::Update(const StepInputs& inputs) {
  const uint64_t n = state_->model.layout.parameter_count;
  const v1::OptimizerSpec& spec = recipe_.optimizer();
  const double rate = inputs.learning_rate;
  const float decayed = PenaltyOf(spec, rate, true), other = PenaltyOf(spec, rate, false);
  if (recipe_.clip_norm() > 0) RETURN_IF_ERROR(Clip());
  switch (spec.kind_case()) {
    case v1::OptimizerSpec::kRmsprop:
      RETURN_IF_ERROR(device_.Run(RmspropUpdate{FactorsOf(spec.rmsprop(), rate),
                                                {0, decayed, other},
                                                kinds_,
                                                reduced_,
                                                parameters_,
                                                optimizer_slots_[0]},
                                  n));
      break;
    case v1::OptimizerSpec::kSgd:
      RETURN_IF_ERROR(device_.Run(
          SgdUpdate{static_cast<float>(rate), static_cast<float>(spec.sgd().momentum()),
                    spec.sgd().nesterov(), {0, decayed, other}, kinds_, reduced_, parameters_,
                    optimizer_slots_.empty() ? nullptr : optimizer_slots_[0]},
          n));
      break;
    case v1::OptimizerSpec::kAdamw:
      RETURN_IF_ERROR(device_.Run(AdamwUpdate{FactorsOf(spec.adamw(), rate, inputs.step),
                                              {0, decayed, other},
                                              kinds_,
                                              reduced_,
                                              parameters_,
                                              optimizer_slots_[0],
                                              optimizer_slots_[1]},
                                  n));
      break;
    case v1::OptimizerSpec::KIND_NOT_SET:
      return absl::InternalError("no optimizer");
  }
  if (average_ == nullptr) return absl::OkStatus();
  // As torch.optim.swa_utils.AveragedModel: the first step's weights, then the moving average.
  if (inputs.step == 0) return device_.Copy(average_, parameters_, n * sizeof(float));
  return device_.Run(
      BlendUpdate{static_cast<float>(1 - recipe_.ema_decay()), parameters_, average_}, n);
}

absl::Status GpuEngine::Run(const StepInputs& inputs, std::vector<ShardOutcome>& outcomes) {
  saved_ = false;
  RETURN_IF_ERROR(Take(inputs.images, recipe_.augment(), inputs));
  const uint64_t failures = device_.MemoryFailures();
  RETURN_IF_ERROR(Compute(0));
  for (size_t piece = 0; exchange_ != nullptr && piece < pieces_.size(); ++piece) {
    RETURN_IF_ERROR(device_.Precede(*exchange_));
    if (piece + 1 < pieces_.size()) RETURN_IF_ERROR(Compute(piece + 1));
    RETURN_IF_ERROR(Exchange(piece));
  }
  if (steps_++ <= 1) RETURN_IF_ERROR(CheckMemory(device_, failures));
  RETURN_IF_ERROR(exchange_ != nullptr ? exchange_->Precede(device_) : SumHere());
  RETURN_IF_ERROR(Update(inputs));
  RETURN_IF_ERROR(device_.Copy(outs_.host, outs_.device, outs_.bytes));
  RETURN_IF_ERROR(device_.Finish());

  const uint64_t statistics = state_->model.layout.statistic_count;
  const double* const losses = At<double>(outs_.host, outs_.losses);
  const uint32_t* const correct = At<uint32_t>(outs_.host, outs_.correct);
  for (uint32_t k = 0; k < shards_; ++k) {
    const double* const first = At<double>(outs_.host, outs_.statistics) + k * statistics;
    outcomes[k].statistics.assign(first, first + statistics);
    outcomes[k].result = {};
    for (uint32_t i = k * shard_batch_; i < (k + 1) * shard_batch_; ++i) {
      outcomes[k].result.loss += losses[i];
      outcomes[k].result.correct += correct[i];
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PassResult>> GpuEngine::Validate(uint32_t first, uint32_t count) {
  const std::vector<float>& statistics =
      state_->averaged ? state_->average_statistics : state_->model.statistics;
  RETURN_IF_ERROR(
      device_.Copy(running_, statistics.data(), statistics.size() * sizeof(float)));
  RETURN_IF_ERROR(network_->SetWeights(state_->averaged ? average_ : parameters_));
  RETURN_IF_ERROR(network_->SetRunning(running_));
  std::vector<PassResult> results;
  for (uint32_t b = 0; b < count; ++b) {
    const absl::Span<const uint32_t> rest = absl::MakeConstSpan(data_.split.validation)
                                                .subspan(uint64_t{first + b} * kValidationBatch);
    data_.Expect(rest);
    const absl::Span<const uint32_t> images = rest.subspan(0, kValidationBatch);
    RETURN_IF_ERROR(Take(images, false, {}));
    RETURN_IF_ERROR(Augmented(device_, validation_input_, 0, kValidationBatch));
    RETURN_IF_ERROR(network_->Evaluate(validation_input_, logits_));
    RETURN_IF_ERROR(network_->Score(
        logits_, At<uint32_t>(ins_.device, ins_.labels), At<DeviceStep>(ins_.device, ins_.step),
        static_cast<uint32_t>(images.size()), At<double>(outs_.device, outs_.losses),
        At<uint32_t>(outs_.device, outs_.correct)));
    RETURN_IF_ERROR(device_.Copy(outs_.host, outs_.device, outs_.bytes));
    RETURN_IF_ERROR(device_.Finish());
    PassResult& result = results.emplace_back();
    for (size_t i = 0; i < images.size(); ++i) {
      result.loss += At<double>(outs_.host, outs_.losses)[i];
      result.correct += At<uint32_t>(outs_.host, outs_.correct)[i];
    }
    ++setting_.progress;
  }
  return results;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StepEngine>> MakeGpuEngine(Device& device,
                                                          const EngineSetting& setting,
                                                          const GpuEngineOptions& options) {
  return std::make_unique<GpuEngine>(device, setting, options);
}

}  // namespace dermis
