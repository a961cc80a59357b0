// Shapley values of a trained network on real images, for tools/bench/peer_shapley.py: the same
// function, masks and reference for both sides.
//   dermis_bench_shapley --images FILE --players N [--weights FILE] [--epochs E] [--threads T]
//   [--reference MASKS] [--device cpu|gpu|host] [--first K --stride N]
// --weights: the network's weights; trained and written there where there are none yet. --first,
// --stride: every N-th test image from the K-th on, for processes side by side.
// Takes commands on standard input, answers in native bytes on standard output:
//
//   next            int32: index of the next image that has so many superpixels; -1: none is left
//   run N + masks   N float64, margins in fp32; masks are N x players bytes, 0 or 1
//   ours P B SEED   players float64: values by `estimator: leverage` with B masked inputs, the
//                   network in precision P: fp32 or bf16
//   time P B SEED   float64: seconds of one such explanation (masks, inputs, their outputs, fit) on
//                   --threads threads that each make one, as a worker's do
//   reference       players float64, then their standard errors: exact up to 16 players, else by
//                   leverage with other seeds
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/safetensors.h"
#include "common/tasks.h"
#include "tools/bench/bench.h"
#include "tools/bench/bench_device.h"
#include "tools/bench/training.h"
#include "worker/explain/composer.h"
#include "worker/explain/estimators/coalitions.h"
#include "worker/explain/estimators/exact.h"
#include "worker/explain/estimators/regression.h"
#include "worker/explain/explain.h"
#include "worker/explain/superpixels.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/trainer.h"

namespace dermis::bench {
namespace {

constexpr uint64_t kReferenceSeed = uint64_t{1} << 40;
constexpr uint64_t kReferenceParts = 20;
constexpr uint64_t kReferenceBothShare = 16;
constexpr uint32_t kGpuBatch = 1024;

// The margin of one image with some superpixels hidden in the training mean.
class MaskedImage {
 public:
  MaskedImage(const ImageData& data, uint32_t image, const Segmentation& cut, InferencePlan& plan)
      : plan_(plan) {
    const auto pixels = data.set->Pixels(image);
    const auto quantised = data.Pin(image);
    if (!pixels.ok() || !quantised.ok()) Die("the image cannot be read");
    composer_.emplace(reinterpret_cast<const uint8_t*>(pixels->data()), cut,
                      HiddenColors(cut.count, data.channel_mean), quantised->data(), data.size,
                      NormalisationOf(data));
  }

  // With few players each coalition is run once: both sides ask for most of them again and again.
  std::vector<double> operator()(absl::Span<const Mask> masks) {
    if (masks.empty() || masks[0].size() > kRemembered) return Run(masks);
    std::vector<Mask> missing;
    for (const Mask& mask : masks) {
      if (remembered_.try_emplace(mask, 0).second) missing.push_back(mask);
    }
    const std::vector<double> margins = Run(missing);
    for (size_t r = 0; r < missing.size(); ++r) remembered_[missing[r]] = margins[r];
    std::vector<double> all;
    for (const Mask& mask : masks) all.push_back(remembered_.at(mask));
    return all;
  }

 private:
  static constexpr size_t kRemembered = 16;  // Players: 65,536 coalitions.

  std::vector<double> Run(absl::Span<const Mask> masks) {
    const size_t input = size_t{plan_.size()} * plan_.size() * 3, classes = plan_.classes();
    std::vector<float> logits(masks.size() * classes);
    for (size_t first = 0; first < masks.size(); first += plan_.max_batch()) {
      const auto count =
          static_cast<uint32_t>(std::min<size_t>(plan_.max_batch(), masks.size() - first));
      for (uint32_t b = 0; b < count; ++b) {
        composer_->Compose(masks[first + b], plan_.input() + b * input);
      }
      if (!plan_.Run(count, logits.data() + first * classes).ok()) Die("Run");
    }
    std::vector<double> margins;
    for (size_t r = 0; r < masks.size(); ++r) {
      margins.push_back(OutputOf(v1::OUTPUT_KIND_MARGIN,
                                 absl::MakeConstSpan(logits).subspan(r * classes, classes)));
    }
    return margins;
  }

  InferencePlan& plan_;
  absl::flat_hash_map<Mask, double> remembered_;
  std::optional<Composer> composer_;
};

// The smallest superpixel joins the neighbour that it borders on most, until there are so many.
Segmentation Joined(Segmentation cut, uint32_t players) {
  const auto width = static_cast<size_t>(cut.width), pixels = cut.labels.size();
  for (; cut.count > players; CompactLabels(cut)) {
    std::vector<uint32_t> sizes(cut.count, 0), border(cut.count, 0);
    for (uint32_t label : cut.labels) ++sizes[label];
    const auto smallest =
        static_cast<uint32_t>(std::min_element(sizes.begin(), sizes.end()) - sizes.begin());
    const auto meet = [&](size_t i, size_t j) {
      if (cut.labels[i] == smallest) ++border[cut.labels[j]];
      if (cut.labels[j] == smallest) ++border[cut.labels[i]];
    };
    for (size_t i = 0; i < pixels; ++i) {
      if ((i + 1) % width != 0) meet(i, i + 1);
      if (i + width < pixels) meet(i, i + width);
    }
    border[smallest] = 0;
    const auto into =
        static_cast<uint32_t>(std::max_element(border.begin(), border.end()) - border.begin());
    std::replace(cut.labels.begin(), cut.labels.end(), smallest, into);
  }
  return cut;
}

// The image cut into exactly `players` superpixels: SLIC's, the smallest joined with others where
// it gives no such number; nothing where it gives fewer.
std::optional<Segmentation> Cut(const ImageData& data, uint32_t image, uint32_t players) {
  const auto pixels = data.set->Pixels(image);
  if (!pixels.ok()) Die(pixels.status().ToString());
  const auto& manifest = data.set->manifest();
  std::optional<Segmentation> finer;
  for (uint32_t asked = players * 3 / 4; asked <= players * 3 / 2; ++asked) {
    Segmentation cut =
        Slic(reinterpret_cast<const uint8_t*>(pixels->data()), static_cast<int>(manifest.height()),
             static_cast<int>(manifest.width()), {static_cast<int>(asked), 10, 1});
    if (cut.count == players) return cut;
    if (cut.count > players && (!finer || cut.count < finer->count)) finer = std::move(cut);
  }
  if (!finer) return std::nullopt;
  return Joined(*std::move(finer), players);
}

std::string TrainedModel(const Arguments& arguments, const Network& network,
                         const std::shared_ptr<const ImageData>& data) {
  const std::string path = arguments.Text("--weights");
  if (!path.empty() && std::filesystem::exists(path)) {
    const auto file = MappedFile::Open(path);
    if (!file.ok()) Die(file.status().ToString());
    return std::string((*file)->bytes());
  }
  v1::Recipe recipe = RecipeOf(arguments, network, 4);
  recipe.set_augment(true);
  v1::TrainGoal goal;
  goal.set_max_epochs(static_cast<uint32_t>(arguments.Number("--epochs", 20)));
  TrainerOptions options;
  options.threads = static_cast<uint32_t>(arguments.Number("--threads", 1));
  options.segment = absl::Hours(1);
  std::atomic<bool> yield{false};
  std::atomic<uint64_t> progress{0};
  const auto collective = MakeLocalCollective(4);
  std::string model;
  const auto sink = [&](TrainedState state) {
    model = state.last_model;
    const auto& epochs = state.output.epochs();
    if (!epochs.empty()) {
      std::fprintf(stderr, "trained %d epochs: validation accuracy %.3f\n", epochs.size(),
                   epochs.rbegin()->validation_accuracy());
    }
    return absl::OkStatus();
  };
  const auto last = Train(recipe, goal, data, *collective, "", options, sink, yield, progress);
  if (!last.ok()) Die(last.status().ToString());
  if (!path.empty() && !(std::ofstream(path, std::ios::binary) << model).flush()) {
    Die(path + " cannot be written");
  }
  return model;
}

void Write(const std::vector<double>& values) {
  std::fwrite(values.data(), sizeof(double), values.size(), stdout);
  std::fflush(stdout);
}

v1::Perturbation LeverageOf(uint32_t players, uint64_t seed, uint64_t budget) {
  v1::Perturbation perturbation;
  perturbation.set_seed(seed);
  perturbation.mutable_coalitions()->set_estimator(v1::ESTIMATOR_LEVERAGE);
  perturbation.mutable_coalitions()->set_superpixels(players);
  perturbation.mutable_coalitions()->set_budget(static_cast<uint32_t>(budget));
  return perturbation;
}

std::vector<double> Leverage(MaskedImage& f, uint32_t players, uint64_t seed, uint64_t budget) {
  const uint64_t rows = RowCount(LeverageOf(players, seed, budget));
  const CoalitionDesign design = LeverageDesign(seed, players, (rows - 2) / 2);
  return FitLeverage(design, f(design.rows), 0, /*errors=*/false).values;
}

// One image as a game of its superpixels.
class Game {
 public:
  Game(const Arguments& arguments, uint32_t players)
      : players_(players),
        reference_(static_cast<uint64_t>(arguments.Number("--reference", 1 << 17))),
        network_(arguments),
        next_(static_cast<size_t>(arguments.Number("--first", 0))),
        stride_(static_cast<size_t>(arguments.Number("--stride", 1))) {
    const PlanMaker maker = PlansOf(arguments.Text("--device", "cpu"), kGpuBatch);
    data_ = LoadImages(arguments.Text("--images"), network_.size);
    const std::string model = TrainedModel(arguments, network_, data_);
    for (long t = 0; t < arguments.Number("--threads", 1); ++t) {
      fp32_.push_back(MakePlan(maker, model, v1::PRECISION_FP32));
      bf16_.push_back(MakePlan(maker, model, v1::PRECISION_BF16));
    }
  }

  int32_t Next() {
    const std::vector<uint32_t>& test = data_->split.test;
    for (; next_ < test.size(); next_ += stride_) {
      const uint32_t image = test[next_];
      const auto cut = Cut(*data_, image, players_);
      if (!cut) continue;
      next_ += stride_;
      image_ = image;
      const auto superpixels = ToProto(*cut);
      if (!superpixels.ok()) Die(superpixels.status().ToString());
      superpixels_ = *superpixels;
      exact_.emplace(*data_, image, *cut, *fp32_[0]);
      rough_.emplace(*data_, image, *cut, *bf16_[0]);
      return static_cast<int32_t>(image);
    }
    return -1;
  }

  MaskedImage& In(v1::Precision precision) {
    if (!exact_) Die("no image");
    return precision == v1::PRECISION_BF16 ? *rough_ : *exact_;
  }

  // Masks are made and run, and values fitted, by the functions of a worker's tasks.
  double SecondsOf(v1::Precision precision, uint64_t budget, uint64_t seed) {
    auto& plans = precision == v1::PRECISION_BF16 ? bf16_ : fp32_;
    const double start = Seconds();
    std::vector<std::thread> threads;
    for (size_t t = 0; t < plans.size(); ++t) {
      threads.emplace_back([&, t] {
        v1::FitTask fit;
        *fit.mutable_perturbation() = LeverageOf(players_, seed * plans.size() + t, budget);
        fit.mutable_perturbation()->set_image(image_);
        fit.mutable_perturbation()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
        fit.mutable_perturbation()->set_precision(precision);
        fit.set_output(v1::OUTPUT_KIND_MARGIN);
        v1::PerturbTask task;
        *task.mutable_perturbation() = fit.perturbation();
        std::vector<v1::PerturbOutput> outputs;
        for (uint32_t run = 0; run < RunCount(fit.perturbation()); ++run) {
          task.set_run(run);
          auto output = RunPerturb(task, *data_, superpixels_, *plans[t]);
          if (!output.ok()) Die(output.status().ToString());
          outputs.push_back(*std::move(output));
        }
        const auto attribution = RunFit(fit, players_, outputs);
        if (!attribution.ok()) Die(attribution.status().ToString());
      });
    }
    for (std::thread& thread : threads) thread.join();
    return (Seconds() - start) / static_cast<double>(plans.size());
  }

  // Values, then standard errors.
  std::vector<double> Reference() {
    MaskedImage& f = In(v1::PRECISION_FP32);
    if (players_ <= kMostExactSuperpixels) {
      std::vector<Mask> masks;
      for (uint64_t row = 0; row < uint64_t{1} << players_; ++row) {
        masks.push_back(ExactMask(row, players_));
      }
      std::vector<double> values = FitExact(f(masks), players_);
      values.resize(2 * size_t{players_}, 0.0);
      return values;
    }
    return Sampled(f, In(v1::PRECISION_BF16));
  }

 private:
  std::unique_ptr<InferencePlan> MakePlan(const PlanMaker& maker, const std::string& model,
                                          v1::Precision precision) const {
    auto plan = maker(network_.kind, model, network_.size, precision);
    if (!plan.ok()) Die(plan.status().ToString());
    return *std::move(plan);
  }

  // The mean of estimates with masks of their own, whose spread gives the standard errors. Most
  // masks are run in bf16 alone, which costs a fraction, the first of them in both, since
  // phi(fp32) = phi(bf16) + phi(fp32 - bf16), and the difference varies little.
  std::vector<double> Sampled(MaskedImage& fp32, MaskedImage& bf16) {
    for (uint64_t part = designs_.size(); part < kReferenceParts; ++part) {
      designs_.push_back(
          LeverageDesign(kReferenceSeed + part, players_, reference_ / kReferenceParts / 2));
    }
    std::vector<double> sum(players_, 0.0), squares(players_, 0.0);
    for (const CoalitionDesign& design : designs_) {
      const std::vector<double> rough = bf16(design.rows);
      const uint64_t units = design.units.size() / kReferenceBothShare;
      std::vector<double> difference = fp32(absl::MakeConstSpan(design.rows).first(2 + 2 * units));
      for (size_t r = 0; r < difference.size(); ++r) difference[r] -= rough[r];
      const std::vector<double> most = FitLeverage(design, rough, 0, /*errors=*/false).values,
                                rest =
                                    FitLeverage(design, difference, units, /*errors=*/false).values;
      for (uint32_t k = 0; k < players_; ++k) {
        const double value = most[k] + rest[k];
        sum[k] += value;
        squares[k] += value * value;
      }
    }
    constexpr double kParts = kReferenceParts;
    std::vector<double> found(2 * size_t{players_});
    for (uint32_t k = 0; k < players_; ++k) {
      found[k] = sum[k] / kParts;
      const double variance = (squares[k] - sum[k] * found[k]) / (kParts - 1);
      found[players_ + k] = std::sqrt(std::max(variance, 0.0) / kParts);
    }
    return found;
  }

  const uint32_t players_;
  const uint64_t reference_;
  const Network network_;
  size_t next_;
  const size_t stride_;
  std::shared_ptr<const ImageData> data_;
  std::vector<std::unique_ptr<InferencePlan>> fp32_, bf16_;  // One a thread.
  uint32_t image_ = 0;
  v1::SuperpixelOutput superpixels_;
  std::optional<MaskedImage> exact_, rough_;
  std::vector<CoalitionDesign> designs_;  // Of the reference: the same for all images.
};

v1::Precision ReadPrecision() {
  std::string name;
  std::cin >> name;
  if (name == "fp32") return v1::PRECISION_FP32;
  if (name != "bf16") Die("no precision " + name);
  return v1::PRECISION_BF16;
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const auto players = static_cast<uint32_t>(arguments.Number("--players", 14));
  Game game(arguments, players);
  for (std::string command; std::cin >> command;) {
    if (command == "next") {
      const int32_t image = game.Next();
      std::fwrite(&image, sizeof(image), 1, stdout);
      std::fflush(stdout);
    } else if (command == "run") {
      size_t count = 0;
      std::cin >> count;
      std::cin.get();  // The line's end.
      std::vector<Mask> masks(count, Mask(players));
      for (Mask& mask : masks) {
        std::cin.read(reinterpret_cast<char*>(mask.data()), static_cast<std::streamsize>(players));
      }
      if (!std::cin) Die("masks are missing");
      Write(game.In(v1::PRECISION_FP32)(masks));
    } else if (command == "ours" || command == "time") {
      const v1::Precision precision = ReadPrecision();
      uint64_t budget = 0, seed = 0;
      std::cin >> budget >> seed;
      if (command == "ours") {
        Write(Leverage(game.In(precision), players, seed, budget));
      } else {
        Write({game.SecondsOf(precision, budget, seed)});
      }
    } else if (command == "reference") {
      Write(game.Reference());
    } else {
      Die("no command " + command);
    }
  }
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
