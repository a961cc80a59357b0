#include "tests/unit/tools/report/fake_study.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/digest.h"
#include "common/estimators.h"
#include "common/metrics.h"
#include "common/philox.h"
#include "common/spec_yaml.h"
#include "common/split.h"

namespace dermis {
namespace {

double Random(uint64_t a, uint64_t b, uint32_t element = 0) {
  return ToUnitFloat(PhiloxBlock(7, Purpose::kTest, a, b, element)[0]);
}

// All images of a set in one chunk in memory.
class MemorySet : public ImageSet {
 public:
  MemorySet(uint32_t count, uint32_t size) : size_(size) {
    manifest_.set_format(1);
    manifest_.set_name("lesions");
    manifest_.set_height(size);
    manifest_.set_width(size);
    manifest_.add_classes("benign");
    manifest_.add_classes("malignant");
    manifest_.set_preprocessing("exif-upright/srgb/area/centre-crop");
    for (uint32_t i = 0; i < count; ++i) {
      v1::ImageEntry& entry = *manifest_.add_images();
      entry.set_label(i % 2);
      entry.set_name(absl::StrFormat("%s/LESION_%05d.jpg", manifest_.classes(i % 2), i));
      entry.set_has_mask(true);
      pixels_.push_back(Draw(i));
      entry.set_digest(Sha256Of(pixels_.back()).bytes());
    }
  }
  bool Inside(uint32_t i, double x, double y) const {
    const double s = size_, dx = x / s - (.42 + .16 * Random(i, 1)), dy = y / s - (.42 + .16 * Random(i, 2));
    const double angle = std::atan2(dy, dx);
    const double radius = .2 + .1 * Random(i, 3) + (i % 2 ? .04 : .012) * std::sin(3 * angle + 6 * Random(i, 4)) +
                          (i % 2 ? .02 : .004) * std::sin(7 * angle);
    return std::hypot(dx, dy) < radius;
  }
  std::string Draw(uint32_t i) const {
    std::string out;
    for (uint32_t y = 0; y < size_; ++y) {
      for (uint32_t x = 0; x < size_; ++x) {
        const bool in = Inside(i, x, y);
        const double noise = 14 * (Random(i, 9, y * size_ + x) - .5) +
                             10 * std::sin(x * .11 + i) * std::cos(y * .09) * (in ? 1.8 : .6);
        const double base[3] = {in ? 118. - 40 * (i % 2) : 214., in ? 72. - 22 * (i % 2) : 168., in ? 54. : 146.};
        for (double b : base) out.push_back(static_cast<char>(std::clamp(b + noise, 0., 255.)));
      }
    }
    return out;
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override { return pixels_[i]; }
  absl::StatusOr<std::string_view> Mask(uint32_t i) const override {
    std::string& mask = masks_[i];
    if (mask.empty()) {
      for (uint32_t p = 0; p < size_ * size_; ++p) mask.push_back(Inside(i, p % size_, p / size_));
    }
    return mask;
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::UnimplementedError("not needed here");
  }

 private:
  uint32_t size_;
  std::vector<std::string> pixels_;
  mutable std::map<uint32_t, std::string> masks_;
};

}  // namespace

FakeStudy::FakeStudy(uint32_t count, uint32_t size, uint32_t explained)
    : images(std::make_unique<MemorySet>(count, size)) {
  v1::StudySpec spec =
      *ParseStudyYaml(
          "name: fake\nimages: {set: lesions, split: {test: 0.25}}\ntraining: {epochs: 60, batch_size: 16, early_stopping: "
          "{patience: 8}}\nexplanation: {methods: [lime: {}, lime: {superpixels: quickshift}, shapley: {}, shapley: "
          "{superpixels: quickshift}, grad_cam, activation_maps]}\n",
          "fake.yaml");
  *results.mutable_spec() = *ResolveSpec(spec);
  results.mutable_status()->set_id("fake");
  results.mutable_status()->set_phase(v1::StudyStatus::DONE);
  results.set_image_set(Sha256Of("set").bytes());
  results.set_numerics_class("cpu/avx512_core_amx/oneDNN-3.1/canary-1b2c3d");
  results.mutable_model()->set_weights(Sha256Of("weights").bytes());
  v1::TrainOutput& training = *results.mutable_training();
  training.set_steps_per_epoch(13);
  for (int e = 1; e <= 38; ++e) {
    v1::EpochMetrics& m = *training.add_epochs();
    m.set_epoch(e);
    m.set_training_loss(.62 * std::exp(-e / 14.) + .16 + .015 * Random(1, e));
    m.set_validation_loss(.55 * std::exp(-e / 10.) + .26 + .003 * std::max(0., e - 26.) + .03 * Random(2, e) -
                          (e == 30 ? .1 : 0));
    m.set_training_accuracy(.95 - .35 * std::exp(-e / 12.) + .01 * Random(3, e));
    m.set_validation_accuracy(.89 - .3 * std::exp(-e / 9.) + .02 * Random(4, e));
    m.set_learning_rate(1e-3);
  }
  training.set_best_epoch(30);
  results.set_stop_epoch(38);
  const Split split = *MakeSplit(images->manifest(), results.spec().images().split(), 1);
  for (uint32_t image : split.test) {
    results.add_test_images(image);
    const double margin = (images->manifest().images(image).label() ? 1.6 : -1.6) + 5 * (Random(5, image) - .5);
    results.add_test_logits(static_cast<float>(-margin / 2));
    results.add_test_logits(static_cast<float>(margin / 2));
  }
  const char* whys[] = {"most confident", "least confident", "random"};
  for (uint32_t k = 0; k < explained; ++k) {
    const uint32_t row = k * split.test.size() / explained;
    const bool positive = images->manifest().images(split.test[row]).label() == 1;
    const bool predicted = results.test_logits(2 * row + 1) > results.test_logits(2 * row);
    AddExplained(row, absl::StrCat(predicted == positive ? "true " : "false ", predicted ? "positive" : "negative",
                                   ", ", whys[k % 3]));
  }
}

v1::TaskResult FakeStudy::Store(v1::Payload payload) {
  v1::TaskResult result;
  result.set_task(Sha256Of(absl::StrCat("task", payloads.size())).bytes());
  payloads[result.task()] = std::move(payload);
  return result;
}

void FakeStudy::AddExplained(uint32_t row, const std::string& why) {
  const uint32_t image = results.test_images(row), size = images->manifest().width();
  const auto& set = static_cast<const MemorySet&>(*images);
  const double f = results.test_logits(2 * row + 1) - results.test_logits(2 * row);
  v1::ExplainedImage& explained = *results.add_explained();
  explained.set_image(image);
  explained.set_why(why);
  v1::TaskResult activations;
  for (const v1::MethodSpec& method : results.spec().explanation().methods()) {
    v1::MethodResult& out = *explained.add_results();
    *out.mutable_method() = method;
    if (method.has_grad_cam() || method.has_activation_maps()) {
      if (activations.task().empty()) {
        v1::Payload payload;
        uint32_t channels[] = {32, 32, 64, 64, 128, 128};
        for (uint32_t l = 0; l < 6; ++l) {
          v1::LayerMaps& maps = *payload.mutable_activations()->add_layers();
          const uint32_t side = 32 >> (l / 2);
          maps.set_layer(absl::StrCat("conv", l + 1));
          maps.set_channels(channels[l]);
          maps.set_height(side);
          maps.set_width(side);
          for (uint32_t c = 0; c < channels[l]; ++c) {
            for (uint32_t p = 0; p < side * side; ++p) {
              const double x = (p % side + .5) * size / side, y = (p / side + .5) * size / side;
              maps.add_activations(static_cast<float>(set.Inside(image, x, y) * Random(20 + l, c) +
                                                      .6 * Random(30 + l, c, p)));
            }
          }
          for (uint32_t p = 0; p < side * side; ++p) {
            const double x = (p % side + .5) * size / side, y = (p / side + .5) * size / side;
            const double v = set.Inside(image, x, y) ? .5 + Random(40, l, p) : -.2 * Random(41, l, p);
            maps.add_grad_cam(static_cast<float>(l == 1 ? (f > 0 ? -1 : 1) * std::abs(v) : v * (f > 0 ? 1 : -1)));
          }
        }
        activations = Store(std::move(payload));
      }
      *out.mutable_result() = activations;
      continue;
    }
    const bool lime = method.has_lime();
    const uint32_t side = (lime ? method.lime().superpixels() : method.shapley().superpixels()).has_slic() ? 7 : 5;
    v1::Payload cells;
    v1::SuperpixelOutput& superpixels = *cells.mutable_superpixels();
    superpixels.set_width(size);
    superpixels.set_height(size);
    superpixels.set_count(side * side);
    std::string labels;
    std::vector<double> inside(side * side);
    for (uint32_t p = 0; p < size * size; ++p) {
      const double x = p % size + 5 * std::sin(p / size * .15), y = p / size + 5 * std::sin(p % size * .13);
      const uint32_t column = std::clamp<int>(static_cast<int>(x * side / size), 0, side - 1);
      const uint32_t line = std::clamp<int>(static_cast<int>(y * side / size), 0, side - 1);
      const uint32_t label = line * side + column;
      labels.push_back(static_cast<char>(label & 255));
      labels.push_back(static_cast<char>(label >> 8));
      inside[label] += set.Inside(image, x, y);
    }
    superpixels.set_labels(labels);
    *out.mutable_superpixels() = Store(std::move(cells));
    v1::Payload payload;
    v1::Attribution& fit = *payload.mutable_fit();
    fit.set_count(side * side);
    double sum = 0;
    for (uint32_t k = 0; k < side * side; ++k) {
      const double share = inside[k] * side * side / size / size;
      fit.add_values(f * (share * .14 + .06 * (Random(50, image, k) - .45)));
      fit.add_standard_errors(.01 + .02 * Random(51, image, k));
      sum += fit.values(k);
    }
    fit.set_full(f);
    fit.set_hidden(lime ? -.41 : f - sum);
    fit.set_evaluations(lime ? 1000 : 64 * 2 * (side * side - 1) + 2);
    if (lime) {
      fit.set_r_squared(.7 + .2 * Random(52, image));
    } else {
      fit.set_additivity_residual(f - fit.hidden() - sum);
    }
    *out.mutable_result() = Store(std::move(payload));
  }
}

void FakeStudy::AddBaseline(const std::string& name, uint32_t size, v1::OutputKind output) {
  results.mutable_spec()->mutable_explanation()->set_baselines(true);
  const auto number = static_cast<uint32_t>(results.baselines_size());
  v1::BaselineResult& baseline = *results.add_baselines();
  baseline.set_name(name);
  baseline.set_size(size);
  for (int i = 0; i < results.test_images_size();
       ++i) {  // Not so sure as the network, and often of another mind.
    baseline.add_test_logits(0);
    baseline.add_test_logits(.3f * results.test_logits(2 * i + 1) +
                             static_cast<float>(Random(60 + number, i) - .5));
  }
  for (v1::ExplainedImage& image : *results.mutable_explained()) {
    v1::ExplainedBaseline& by = *image.add_baselines();
    by.set_baseline(number);
    for (const v1::MethodResult& network : image.results()) {
      if (!HasMasks(network.method())) continue;
      v1::MethodResult& out = *by.add_results();
      out = network;
      out.mutable_task()->mutable_fit()->set_output(output);
      v1::Payload payload = payloads.at(network.result().task());
      v1::Attribution& fit = *payload.mutable_fit();
      for (double& value : *fit.mutable_values())
        value *= .1 + .2 * Random(70 + number, image.image());
      for (double& error : *fit.mutable_standard_errors()) error *= .1;
      *out.mutable_result() = Store(std::move(payload));
    }
  }
}

ReportInputs FakeStudy::Inputs() const {
  ReportInputs inputs;
  inputs.images = images.get();
  inputs.fetch_payload = [this](const v1::TaskResult& result) -> absl::StatusOr<v1::Payload> {
    const auto it = payloads.find(result.task());
    if (it == payloads.end()) return absl::NotFoundError("no such payload");
    return it->second;
  };
  return inputs;
}

}  // namespace dermis
