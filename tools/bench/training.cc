#include "tools/bench/training.h"

#include <atomic>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "common/image_set.h"
#include "common/philox.h"
#include "worker/training/trainer.h"

namespace dermis::bench {
namespace {

constexpr uint32_t kDisplay = 224;

// One image at display size.
class OneImage : public ImageSet {
 public:
  OneImage() : pixels_(NoisePixels(0, kDisplay * kDisplay * 3)) {
    manifest_.set_height(kDisplay);
    manifest_.set_width(kDisplay);
    manifest_.add_classes("benign");
    manifest_.add_classes("malignant");
    manifest_.add_images()->set_name("noise");
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t) const override { return pixels_; }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override {
    return absl::NotFoundError("no mask");
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunks");
  }

 private:
  std::string pixels_;
};

// The trainer's own exchanges with a clock. A step makes one OrderedReduce and then one AllGather.
class TimedCollective : public Collective {
 public:
  TimedCollective(Collective& inner, uint64_t steps, std::atomic<bool>& yield)
      : inner_(inner), last_step_(steps), yield_(yield) {
    if (last_step_ == 1) yield_ = true;
  }

  uint32_t rank() const override { return inner_.rank(); }
  uint32_t world_size() const override { return inner_.world_size(); }
  uint32_t logical_shards() const override { return inner_.logical_shards(); }
  uint32_t first_shard() const override { return inner_.first_shard(); }
  uint32_t shard_count() const override { return inner_.shard_count(); }

  absl::Status OrderedReduce(absl::Span<float* const> shards, uint64_t n, float* out) override {
    steps_.push_back({.begun = exchanged_, .arrived = Seconds(), .finished = 0});
    in_step_ = true;
    // A step asks for the end at its beginning, so the one before the last is the place to say it.
    if (steps_.size() + 1 == last_step_) yield_ = true;
    return inner_.OrderedReduce(shards, n, out);
  }

  absl::StatusOr<std::vector<std::string>> AllGather(std::string mine) override {
    auto all = inner_.AllGather(std::move(mine));
    exchanged_ = Seconds();
    if (in_step_) steps_.back().finished = exchanged_;
    in_step_ = false;
    return all;
  }

  std::vector<uint32_t> WaitsFor() const override { return inner_.WaitsFor(); }
  absl::Status Check(absl::Duration since) override { return inner_.Check(since); }
  void Abort(const absl::Status& cause) override { inner_.Abort(cause); }

  std::vector<StepTimes> steps() const { return steps_; }

 private:
  Collective& inner_;
  const uint64_t last_step_;
  std::atomic<bool>& yield_;
  std::vector<StepTimes> steps_;
  double exchanged_ = 0;
  bool in_step_ = false;
};

}  // namespace

std::string NoisePixels(uint32_t image, uint32_t count) {
  std::string pixels(count, '\0');
  for (uint32_t i = 0; i < count; i += 4) {
    const auto words = PhiloxBlock(1, Purpose::kTest, image, 0, i);
    for (uint32_t k = 0; k < 4 && i + k < count; ++k) {
      pixels[i + k] = static_cast<char>(words[k] & 0xff);
    }
  }
  return pixels;
}

Network::Network(const Arguments& arguments)
    : size(static_cast<uint32_t>(arguments.Number("--size", 32))),
      batch(static_cast<uint32_t>(arguments.Number("--batch", 64))) {
  const std::string name = arguments.Text("--model", "seed_cnn");
  if (!v1::ModelKind_Parse(absl::StrCat("MODEL_KIND_", absl::AsciiStrToUpper(name)), &kind)) {
    Die("--model seed_cnn|resnet18|resnet34|resnet50");
  }
  if (kind != v1::MODEL_KIND_SEED_CNN) stem = size <= 64 ? v1::STEM_SMALL : v1::STEM_IMAGENET;
}

v1::Precision PrecisionOf(const Arguments& arguments) {
  return arguments.Text("--precision", "fp32") == "bf16" ? v1::PRECISION_BF16 : v1::PRECISION_FP32;
}

std::shared_ptr<ImageData> MakeData(uint32_t size, uint32_t training, uint32_t validation) {
  auto data = std::make_shared<ImageData>();
  data->set = std::make_shared<OneImage>();
  data->size = size;
  data->classes = 2;
  for (uint32_t i = 0; i < training + validation; ++i) {
    (i < training ? data->split.training : data->split.validation).push_back(i);
    data->labels.push_back(i % 2);
    const std::string pixels = NoisePixels(i, size * size * 3);
    data->pixels.insert(data->pixels.end(), pixels.begin(), pixels.end());
  }
  data->mean = 127.5;
  data->deviation = 73.9;
  data->channel_mean = {127.5, 127.5, 127.5};
  return data;
}

std::shared_ptr<const ImageData> LoadImages(const std::string& path, uint32_t size) {
  auto opened = ImageSet::OpenFile(path);
  if (!opened.ok()) Die(opened.status().ToString());
  const std::shared_ptr<const ImageSet> set = *std::move(opened);  // The data read it later, too.
  v1::ImageSource source;
  source.set_image_set(set->digest().bytes());
  source.set_size(size);
  source.mutable_split()->set_test(0.2);
  source.mutable_split()->set_validation(0.1);
  source.set_split_seed(1);
  ImageSources sources([set](const Digest& digest) -> absl::StatusOr<std::string> {
    if (digest == set->digest()) return set->manifest_blob();
    const auto bytes = set->ChunkBytes(digest);
    if (!bytes.ok()) return bytes.status();
    return std::string(*bytes);
  });
  auto data = sources.Get(source);
  if (!data.ok()) Die(data.status().ToString());
  return *data;
}

v1::Recipe RecipeOf(const Arguments& arguments, const Network& network, uint32_t logical_shards) {
  v1::Recipe recipe;
  recipe.set_model(network.kind);
  recipe.set_stem(network.stem);
  recipe.mutable_images()->set_size(network.size);
  recipe.set_logical_shards(logical_shards);
  recipe.set_batch_size(network.batch);
  auto* rmsprop = recipe.mutable_optimizer()->mutable_rmsprop();
  rmsprop->set_learning_rate(1e-3);
  rmsprop->set_alpha(0.9);
  rmsprop->set_weight_decay(1e-4);
  recipe.set_dropout(network.kind == v1::MODEL_KIND_SEED_CNN);
  recipe.set_precision(PrecisionOf(arguments));
  recipe.set_seed(1);
  return recipe;
}

std::vector<StepTimes> TimedTraining(const v1::Recipe& recipe,
                                     const std::shared_ptr<const ImageData>& data,
                                     Collective& collective, uint32_t threads, uint64_t steps) {
  v1::TrainGoal goal;
  goal.set_max_epochs(1);
  TrainerOptions options;
  options.threads = threads;
  options.segment = absl::Hours(1);  // No state before the end: its writing is no part of a step.
  std::atomic<bool> yield{false};
  std::atomic<uint64_t> progress{0};
  TimedCollective timed(collective, steps, yield);
  const auto last = dermis::Train(
      recipe, goal, data, timed, "", options, [](TrainedState) { return absl::OkStatus(); }, yield,
      progress);
  if (!last.ok()) Die(last.status().ToString());
  if (steps > 0 && *last != steps) Die("not as many steps as were asked for");
  return timed.steps();
}

double RateOf(const std::vector<StepTimes>& steps, size_t first, uint32_t batch) {
  if (first >= steps.size()) Die("no steps to measure");
  double seconds = 0;
  for (size_t s = first; s < steps.size(); ++s) seconds += steps[s].finished - steps[s].begun;
  return static_cast<double>((steps.size() - first) * batch) / seconds;
}

}  // namespace dermis::bench
