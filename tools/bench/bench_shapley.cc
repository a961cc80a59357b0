// Shapley values of a trained network on real images, for tools/bench/peer_shapley.py: the same
// function, masks and reference for both sides. Trains the network on the image set first.
//   dermis_bench_shapley --images FILE --players N [--epochs E] [--threads T] [--reference MASKS]
// Takes commands on standard input, answers in native bytes on standard output:
//
//   next            int32: index of the next image that has so many superpixels; -1: none is left
//   run N + masks   N float64, margins; masks are N x players bytes, 0 or 1
//   ours B SEED     players float64: values by `estimator: leverage` with B masked inputs
//   reference       players float64, then their standard errors: exact up to 16 players, else by
//                   leverage with other seeds
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "tools/bench/bench.h"
#include "tools/bench/training.h"
#include "worker/explain/composer.h"
#include "worker/explain/estimators/coalitions.h"
#include "worker/explain/estimators/exact.h"
#include "worker/explain/estimators/regression.h"
#include "worker/explain/superpixels.h"
#include "worker/plan/inference_plan.h"
#include "worker/training/trainer.h"

namespace dermis::bench {
namespace {

constexpr uint64_t kReferenceSeed = uint64_t{1} << 40;

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

// The image cut into exactly `players` superpixels; nothing where SLIC does not give as many.
std::optional<Segmentation> Cut(const ImageData& data, uint32_t image, uint32_t players) {
  const auto pixels = data.set->Pixels(image);
  if (!pixels.ok()) Die(pixels.status().ToString());
  const auto& manifest = data.set->manifest();
  for (uint32_t asked = players * 3 / 4; asked <= players * 3 / 2; ++asked) {
    Segmentation cut =
        Slic(reinterpret_cast<const uint8_t*>(pixels->data()), static_cast<int>(manifest.height()),
             static_cast<int>(manifest.width()), {static_cast<int>(asked), 10, 1});
    if (cut.count == players) return cut;
  }
  return std::nullopt;
}

std::string TrainedModel(const Arguments& arguments, const Network& network,
                         const std::shared_ptr<const ImageData>& data) {
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
  return model;
}

void Write(const std::vector<double>& values) {
  std::fwrite(values.data(), sizeof(double), values.size(), stdout);
  std::fflush(stdout);
}

RegressionFit Leverage(MaskedImage& f, uint32_t players, uint64_t seed, uint64_t budget) {
  v1::Perturbation perturbation;
  perturbation.mutable_coalitions()->set_estimator(v1::ESTIMATOR_LEVERAGE);
  perturbation.mutable_coalitions()->set_superpixels(players);
  perturbation.mutable_coalitions()->set_budget(static_cast<uint32_t>(budget));
  const CoalitionDesign design = LeverageDesign(seed, players, (RowCount(perturbation) - 2) / 2);
  return FitLeverage(design, f(design.rows), 0);
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const auto players = static_cast<uint32_t>(arguments.Number("--players", 14));
  const auto reference = static_cast<uint64_t>(arguments.Number("--reference", 1 << 17));
  const Network network(arguments);
  const auto data = LoadImages(arguments.Text("--images"), network.size);
  auto plan = MakeInferencePlan(network.kind, TrainedModel(arguments, network, data), network.size,
                                PrecisionOf(arguments));
  if (!plan.ok()) Die(plan.status().ToString());

  size_t next = 0;
  std::optional<MaskedImage> f;
  for (std::string command; std::cin >> command;) {
    if (command == "next") {
      int32_t image = -1;
      for (f.reset(); next < data->split.test.size() && !f; ++next) {
        const auto cut = Cut(*data, data->split.test[next], players);
        if (!cut) continue;
        f.emplace(*data, data->split.test[next], *cut, **plan);
        image = static_cast<int32_t>(data->split.test[next]);
      }
      std::fwrite(&image, sizeof(image), 1, stdout);
      std::fflush(stdout);
      continue;
    }
    if (!f) Die("no image");
    if (command == "run") {
      size_t count = 0;
      std::cin >> count;
      std::cin.get();  // The line's end.
      std::vector<Mask> masks(count, Mask(players));
      for (Mask& mask : masks) {
        std::cin.read(reinterpret_cast<char*>(mask.data()), static_cast<std::streamsize>(players));
      }
      if (!std::cin) Die("masks are missing");
      Write((*f)(masks));
    } else if (command == "ours") {
      uint64_t budget = 0, seed = 0;
      std::cin >> budget >> seed;
      Write(Leverage(*f, players, seed, budget).values);
    } else if (command == "reference" && players <= kMostExactSuperpixels) {
      std::vector<Mask> masks;
      for (uint64_t row = 0; row < uint64_t{1} << players; ++row) {
        masks.push_back(ExactMask(row, players));
      }
      Write(FitExact((*f)(masks), players));
      Write(std::vector<double>(players, 0.0));
    } else if (command == "reference") {
      const RegressionFit fit = Leverage(*f, players, kReferenceSeed, reference);
      Write(fit.values);
      Write(fit.standard_errors);
    } else {
      Die("no command " + command);
    }
  }
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
