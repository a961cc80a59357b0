// A network on this machine, with weights and images that are made up (speed does not depend on them).
//   dermis_bench_model --what train   [--precision fp32|bf16] [--shards V] [--threads T] [--steps N]    images/s
//   dermis_bench_model --what forward [--precision ...] [--threads T] [--batches N]                     images/s
//   dermis_bench_model --what masked  [--precision ...] [--runs N]    RunPerturb over the plain forward pass: a ratio
// train and forward: [--model seed_cnn|resnet18|resnet34|resnet50] [--size pixels] [--batch images]
#include <atomic>
#include <memory>
#include <thread>

#include "common/philox.h"
#include "common/tasks.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "tools/bench/bench.h"
#include "worker/collective/collective.h"
#include "worker/explain/explain.h"
#include "worker/models/model.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/trainer.h"

namespace dermis::bench {
namespace {

constexpr uint32_t kDisplay = 224;

// What is run.
struct Network {
  explicit Network(const Arguments& arguments)
      : size(static_cast<uint32_t>(arguments.Number("--size", 32))),
        batch(static_cast<uint32_t>(arguments.Number("--batch", 64))) {
    const std::string name = arguments.Text("--model", "seed_cnn");
    if (!v1::ModelKind_Parse(absl::StrCat("MODEL_KIND_", absl::AsciiStrToUpper(name)), &kind)) {
      Die("--model seed_cnn|resnet18|resnet34|resnet50");
    }
    if (kind != v1::MODEL_KIND_SEED_CNN) stem = size <= 64 ? v1::STEM_SMALL : v1::STEM_IMAGENET;
  }
  v1::ModelKind kind = v1::MODEL_KIND_SEED_CNN;
  v1::Stem stem = v1::STEM_UNSPECIFIED;
  uint32_t size, batch;
};

std::string NoisePixels(uint32_t image, uint32_t count) {
  std::string pixels(count, '\0');
  for (uint32_t i = 0; i < count; i += 4) {
    const auto words = PhiloxBlock(1, Purpose::kTest, image, 0, i);
    for (uint32_t k = 0; k < 4 && i + k < count; ++k) pixels[i + k] = static_cast<char>(words[k] & 0xff);
  }
  return pixels;
}

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
  absl::StatusOr<std::string_view> Mask(uint32_t) const override { return absl::NotFoundError("no mask"); }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunks");
  }

 private:
  std::string pixels_;
};

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

v1::Precision PrecisionOf(const Arguments& arguments) {
  return arguments.Text("--precision", "fp32") == "bf16" ? v1::PRECISION_BF16 : v1::PRECISION_FP32;
}

int Train(const Arguments& arguments) {
  const uint32_t v = static_cast<uint32_t>(arguments.Number("--shards", 1));
  const uint64_t steps = static_cast<uint64_t>(arguments.Number("--steps", 20));
  constexpr uint64_t kWarm = 3;
  const Network network(arguments);
  v1::Recipe recipe;
  recipe.set_model(network.kind);
  recipe.set_stem(network.stem);
  recipe.mutable_images()->set_size(network.size);
  recipe.set_logical_shards(v);
  recipe.set_batch_size(network.batch);
  auto* rmsprop = recipe.mutable_optimizer()->mutable_rmsprop();
  rmsprop->set_learning_rate(1e-3);
  rmsprop->set_alpha(0.9);
  recipe.set_dropout(network.kind == v1::MODEL_KIND_SEED_CNN);
  recipe.set_precision(PrecisionOf(arguments));
  recipe.set_seed(1);
  v1::TrainGoal goal;
  goal.set_max_epochs(1);
  goal.add_exact_steps(kWarm);
  const auto data =
      MakeData(network.size, static_cast<uint32_t>((kWarm + steps + 1) * network.batch), network.batch);
  auto collective = MakeLocalCollective(v);
  TrainerOptions options;
  options.threads = static_cast<uint32_t>(arguments.Number("--threads", 1));
  options.segment = absl::Hours(1);
  double start = 0, end = 0;
  std::atomic<bool> yield{false};
  std::atomic<uint64_t> step{0};
  options.step = &step;
  // When the last step was taken: a state's writing is no part of it.
  std::thread watch([&] {
    while (step < kWarm + steps && !yield) absl::SleepFor(absl::Milliseconds(1));
    end = Seconds();
  });
  std::atomic<uint64_t> progress{0};
  const auto last = dermis::Train(
      recipe, goal, data, *collective, "", options,
      [&](TrainedState state) {
        if (state.output.step() == kWarm) start = Seconds();
        return absl::OkStatus();
      },
      yield, progress);
  yield = true;
  watch.join();
  if (!last.ok()) Die(last.status().ToString());
  if (start == 0 || end == 0) Die("no states at the steps that were asked for");
  Report(static_cast<double>(steps * network.batch) / (end - start), "images/s");
  return 0;
}

std::string Weights(const Network& network) {
  Model model;
  auto layout = LayoutOf(network.kind, network.size, 2, network.stem);
  if (!layout.ok()) Die(layout.status().ToString());
  model.layout = *layout;
  model.parameters.resize(layout->parameter_count);
  model.statistics.resize(layout->statistic_count);
  InitializeModel(1, model);
  model.pixel_mean = 127.5;
  model.pixel_deviation = 73.9;
  return SerializeModel(model);
}

std::unique_ptr<InferencePlan> Plan(const Arguments& arguments) {
  const Network network(arguments);
  auto plan = MakeInferencePlan(network.kind, Weights(network), network.size, PrecisionOf(arguments));
  if (!plan.ok()) Die(plan.status().ToString());
  for (size_t i = 0; i < size_t{(*plan)->max_batch()} * network.size * network.size * 3; ++i) {
    (*plan)->input()[i] = static_cast<float>(i % 255) / 127.0f - 1.0f;
  }
  return *std::move(plan);
}

// Images a second of one plan over `batches` full batches whose inputs are written anew.
double Forward(InferencePlan& plan, uint32_t batch, long batches) {
  std::vector<float> logits(size_t{batch} * plan.classes());
  const double start = Seconds();
  for (long b = 0; b < batches; ++b) {
    if (!plan.Run(batch, logits.data()).ok()) Die("Run");
  }
  return static_cast<double>(batches * batch) / (Seconds() - start);
}

int ForwardAll(const Arguments& arguments) {
  const long batches = arguments.Number("--batches", 20);
  const long count = arguments.Number("--threads", 1);
  const uint32_t batch = Network(arguments).batch;
  std::vector<double> rates(count);
  std::vector<std::thread> threads;
  std::atomic<long> ready{0};
  for (long t = 0; t < count; ++t) {
    threads.emplace_back([&, t] {
      auto plan = Plan(arguments);
      Forward(*plan, batch, 3);
      ++ready;
      while (ready < count) std::this_thread::yield();
      rates[t] = Forward(*plan, batch, batches);
    });
  }
  for (auto& thread : threads) thread.join();
  double sum = 0;
  for (double rate : rates) sum += rate;
  Report(sum, "images/s");
  return 0;
}

int Masked(const Arguments& arguments) {
  const long runs = arguments.Number("--runs", 3);
  const Network network(arguments);
  const auto data = MakeData(network.size, 1, 0);
  v1::SuperpixelTask cut;
  cut.mutable_superpixels()->mutable_slic()->set_count(50);
  cut.mutable_superpixels()->mutable_slic()->set_compactness(10);
  cut.mutable_superpixels()->mutable_slic()->set_sigma(1);
  const auto superpixels = RunSuperpixels(cut, *data->set);
  if (!superpixels.ok()) Die(superpixels.status().ToString());
  auto plan = Plan(arguments);
  v1::PerturbTask task;
  task.mutable_perturbation()->mutable_lime()->set_samples(static_cast<uint32_t>(runs + 1) * kLimeRun);
  task.mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  task.mutable_perturbation()->set_seed(1);
  task.mutable_perturbation()->set_precision(PrecisionOf(arguments));
  std::vector<double> ratios;
  // In turn, so that what disturbs the machine disturbs both.
  for (long run = 0; run <= runs; ++run) {
    const double plain = Forward(*plan, network.batch, 4);
    task.set_run(static_cast<uint32_t>(run));
    const double start = Seconds();
    const auto output = RunPerturb(task, *data, *superpixels, *plan);
    const double masked = kLimeRun / (Seconds() - start);
    if (!output.ok()) Die(output.status().ToString());
    if (run > 0) ratios.push_back(masked / plain);   // The first one warms up.
  }
  Report(Median(ratios), "of plain forward");
  return 0;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string what = arguments.Text("--what");
  if (what == "train") return Train(arguments);
  if (what == "forward") return ForwardAll(arguments);
  if (what == "masked") return Masked(arguments);
  Die("--what train|forward|masked");
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
