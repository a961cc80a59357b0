#include "worker/explain/checks/fidelity.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/metrics.h"
#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/explain/checks/infidelity.h"
#include "worker/explain/checks/maps.h"
#include "worker/explain/checks/priors.h"
#include "worker/explain/masked_model.h"
#include "worker/explain/superpixels.h"
#include "worker/plan/model_pixels.h"

namespace dermis {
namespace {

absl::Status Invalid(const v1::FidelityTask& task, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("fidelity on image ", task.image(), ": ", why));
}

constexpr double kGradientNoise = 0.1;  // INFIDELITY_KIND_GRADIENT's.

// One image under one plan: outputs of masks.
class Probe {
 public:
  Probe(InferencePlan& plan, v1::OutputKind output) : plan_(plan), output_(output) {}

  // Logits, one row a mask.
  absl::StatusOr<std::vector<float>> Logits(absl::Span<const Mask> masks,
                                            const MaskedImage& masked) {
    std::vector<float> logits(masks.size() * plan_.classes());
    RETURN_IF_ERROR(RunMasks(masks, masked, plan_, logits.data()));
    if (!std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); })) {
      return absl::InvalidArgumentError("the model's outputs are not finite");
    }
    evaluations_ += masks.size() * masked.composers.size();
    return logits;
  }

  // f, the function that is explained.
  absl::StatusOr<std::vector<double>> Outputs(absl::Span<const Mask> masks,
                                              const MaskedImage& masked) {
    ASSIGN_OR_RETURN(const std::vector<float> logits, Logits(masks, masked));
    std::vector<double> outputs;
    for (size_t m = 0; m < masks.size(); ++m) outputs.push_back(OutputOf(output_, Row(logits, m)));
    return outputs;
  }

  // f of whole inputs: size x size x 3 pixels in 0..255.
  absl::StatusOr<double> Output(absl::Span<const float> pixels, const Normalisation& normalise) {
    std::transform(pixels.begin(), pixels.end(), plan_.input(), normalise);
    std::vector<float> logits(plan_.classes());
    RETURN_IF_ERROR(plan_.Run(1, logits.data()));
    ++evaluations_;
    return OutputOf(output_, logits);
  }

  absl::Span<const float> Row(const std::vector<float>& logits, size_t m) const {
    return absl::MakeConstSpan(logits).subspan(m * plan_.classes(), plan_.classes());
  }
  uint64_t evaluations() const { return evaluations_; }

 private:
  InferencePlan& plan_;
  const v1::OutputKind output_;
  uint64_t evaluations_ = 0;
};

// Adds `weight` times the outputs of masks to a curve, towards the class that `sign` points to.
absl::Status AddCurve(absl::Span<const Mask> masks, const MaskedImage& masked, double sign,
                      double weight, Probe& probe, v1::OutputCurve& curve) {
  ASSIGN_OR_RETURN(const std::vector<float> logits, probe.Logits(masks, masked));
  const auto points = static_cast<int>(masks.size());
  curve.mutable_probability()->Resize(points, 0);
  curve.mutable_margin()->Resize(points, 0);
  for (int m = 0; m < points; ++m) {
    const absl::Span<const float> row = probe.Row(logits, static_cast<size_t>(m));
    const double positive = OutputOf(v1::OUTPUT_KIND_PROBABILITY, row);
    *curve.mutable_probability()->Mutable(m) += weight * (sign > 0 ? positive : 1 - positive);
    *curve.mutable_margin()->Mutable(m) += weight * sign * OutputOf(v1::OUTPUT_KIND_MARGIN, row);
  }
  return absl::OkStatus();
}

// What is hidden in each draw, on some superpixels, and what that does to f.
struct Halves {
  std::vector<Mask> masks;
  std::vector<double> done;  // f(x) - f(x without R).
};

absl::StatusOr<Halves> RunHalves(const v1::FidelityTask& task, uint32_t superpixels,
                                 const MaskedImage& masked, Probe& probe) {
  Halves halves;
  for (uint32_t draw = 0; draw < task.halves(); ++draw) {
    halves.masks.push_back(RandomHalf(task.seed(), task.image(), draw, superpixels));
  }
  halves.masks.emplace_back(superpixels, uint8_t{1});
  ASSIGN_OR_RETURN(halves.done, probe.Outputs(halves.masks, masked));
  const double full = halves.done.back();
  halves.masks.pop_back();
  halves.done.pop_back();
  for (double& value : halves.done) value = full - value;
  return halves;
}

std::vector<double> LessItsMean(std::vector<double> values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value -= sum / static_cast<double>(values.size());
  return values;
}

void JudgeInfidelity(const Halves& halves, absl::Span<const double> values, MapUnits units,
                     v1::Fidelity& out) {
  std::vector<double> said, done = halves.done;
  for (const Mask& mask : halves.masks) {
    double sum = 0;
    for (size_t k = 0; k < mask.size(); ++k) sum += mask[k] ? 0 : values[k];
    said.push_back(sum);
  }
  const bool fitted = units == MapUnits::kNone || units == MapUnits::kMean;
  // All halves are of one size, so where the map's zero means nothing a constant is free.
  if (units == MapUnits::kMean) {
    said = LessItsMean(std::move(said));
    done = LessItsMean(std::move(done));
  }
  const Infidelity infidelity = InfidelityOf(said, done, fitted);
  out.set_infidelity_kind(fitted ? v1::INFIDELITY_KIND_FITTED : v1::INFIDELITY_KIND_HALVES);
  if (infidelity.relative) out.set_infidelity(*infidelity.relative);
  if (fitted) out.set_scale(infidelity.scale);
}

// As published, for a gradient: what it says of noise is compared with what taking the noise away
// does. The noise is that of an image with noise, of the opposite sign.
absl::Status JudgeGradient(const v1::FidelityTask& task, const v1::PixelAttribution& gradient,
                           const ImageData& data, const Normalisation& normalise, Probe& probe,
                           v1::Fidelity& out) {
  v1::ImageSource source = task.images();
  ASSIGN_OR_RETURN(const std::vector<float> clean, EvaluatedPixels(data, source, task.image()));
  if (gradient.values_size() != static_cast<int>(clean.size())) {
    return Invalid(
        task, absl::StrCat("a gradient of ", gradient.values_size(), " values for ", clean.size()));
  }
  ASSIGN_OR_RETURN(const double full, probe.Output(clean, normalise));
  source.mutable_noise()->set_radius(kGradientNoise);
  source.mutable_noise()->set_seed(task.seed());
  std::vector<double> said, done;
  for (uint32_t draw = 0; draw < task.halves(); ++draw) {
    source.mutable_noise()->set_draw(draw);
    ASSIGN_OR_RETURN(const std::vector<float> noisy, EvaluatedPixels(data, source, task.image()));
    double sum = 0;
    for (size_t i = 0; i < clean.size(); ++i) {
      sum += gradient.values(static_cast<int>(i)) * (clean[i] - noisy[i]) / 255.0;
    }
    said.push_back(sum);
    ASSIGN_OR_RETURN(const double output, probe.Output(noisy, normalise));
    done.push_back(full - output);
  }
  out.set_infidelity_kind(v1::INFIDELITY_KIND_GRADIENT);
  out.set_infidelity(InfidelityOf(said, done, false).squared_error);
  return absl::OkStatus();
}

}  // namespace

std::vector<uint32_t> OrderOf(absl::Span<const double> values, double sign) {
  std::vector<uint32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return sign * values[a] > sign * values[b]; });
  return order;
}

std::vector<Mask> DeletionMasks(absl::Span<const uint32_t> order) {
  std::vector<Mask> masks(order.size() + 1, Mask(order.size(), 1));
  for (size_t m = 1; m < masks.size(); ++m) {
    for (size_t i = 0; i < m; ++i) masks[m][order[i]] = 0;
  }
  return masks;
}

std::vector<Mask> InsertionMasks(absl::Span<const uint32_t> order) {
  std::vector<Mask> masks = DeletionMasks(order);
  for (Mask& mask : masks) {
    for (uint8_t& shown : mask) shown = !shown;
  }
  return masks;
}

absl::StatusOr<v1::FidelityOutput> RunFidelity(const v1::FidelityTask& task,
                                               const FidelityInputs& inputs, const ImageData& data,
                                               InferencePlan& plan, uint64_t* evaluations) {
  if (plan.size() != data.size) {
    return Invalid(task, absl::StrCat("the model takes ", plan.size(),
                                      " pixels a side, the data have ", data.size));
  }
  if (!(task.blur() > 0 && task.blur() <= 1) || task.halves() == 0 ||
      (task.has_priors() && task.priors().random_orders() == 0)) {
    return Invalid(task, "needs a blur in (0, 1], a half and a random order");
  }
  ASSIGN_OR_RETURN(const Segmentation common, FromProto(*inputs.superpixels));
  ASSIGN_OR_RETURN(const MaskedImage hiding,
                   MaskedImageOf(task.images(), task.image(), task.hidden(), task.hiding(), common,
                                 data, plan));
  v1::Hiding blur;
  blur.set_blur(task.blur());
  ASSIGN_OR_RETURN(const MaskedImage blurring,
                   MaskedImageOf(task.images(), task.image(), v1::HIDDEN_VALUE_BLUR, blur, common,
                                 data, plan));
  Probe probe(plan, task.output());

  const Mask shown(common.count, 1);
  ASSIGN_OR_RETURN(const std::vector<float> full, probe.Logits({shown}, hiding));
  const double predicted = OutputOf(v1::OUTPUT_KIND_MARGIN, full) >= 0 ? 1 : -1;

  v1::FidelityOutput output;
  const auto judge = [&](const SuperpixelMap& map, absl::Span<const std::vector<uint32_t>> orders) {
    v1::Fidelity& out = *output.add_maps();
    out.set_map(map.name);
    out.mutable_values()->Assign(map.values.begin(), map.values.end());
    const double weight = 1.0 / static_cast<double>(orders.size());
    absl::Status status;
    for (const std::vector<uint32_t>& order : orders) {
      status.Update(AddCurve(DeletionMasks(order), hiding, predicted, weight, probe,
                             *out.mutable_deletion()));
      status.Update(AddCurve(InsertionMasks(order), blurring, predicted, weight, probe,
                             *out.mutable_insertion()));
    }
    return status;
  };

  if (task.has_priors()) {
    ASSIGN_OR_RETURN(const std::vector<float> pixels,
                     EvaluatedPixels(data, task.images(), task.image()));
    const std::vector<SuperpixelMap> maps =
        PriorMaps(pixels, data.size, common, task.seed(), task.image());
    std::vector<std::vector<uint32_t>> random;
    for (uint32_t draw = 0; draw < task.priors().random_orders(); ++draw) {
      random.push_back(RandomOrder(task.seed(), task.image(), draw, common.count));
    }
    RETURN_IF_ERROR(judge(maps[0], random));
    for (size_t k = 1; k < maps.size(); ++k) {
      // Priors point to no class: the largest comes first, whatever is predicted.
      RETURN_IF_ERROR(judge(maps[k], {OrderOf(maps[k].values, 1)}));
    }
    *evaluations = probe.evaluations();
    return output;
  }

  if (inputs.attribution == nullptr) return Invalid(task, "nothing is judged");
  std::optional<Segmentation> own;
  if (inputs.own_superpixels != nullptr) {
    ASSIGN_OR_RETURN(own, FromProto(*inputs.own_superpixels));
  }
  const MapUnits fit_units =
      task.attribution().fit().perturbation().has_rise() ? MapUnits::kMean : MapUnits::kOutput;
  ASSIGN_OR_RETURN(const std::vector<SuperpixelMap> maps,
                   MapsOf(*inputs.attribution, own ? &*own : nullptr, common, fit_units));
  // A fit in its own terms: on its own superpixels, hidden as it hid them.
  std::optional<MaskedImage> as_fitted;
  std::vector<double> fitted;
  if (inputs.attribution->has_fit()) {
    const v1::Perturbation& perturbation = task.attribution().fit().perturbation();
    ASSIGN_OR_RETURN(as_fitted, MaskedImageOf(task.images(), task.image(), perturbation.hidden(),
                                              perturbation.hiding(), *own, data, plan));
    fitted.assign(inputs.attribution->fit().values().begin(),
                  inputs.attribution->fit().values().end());
  }
  std::optional<Halves> halves;
  for (const SuperpixelMap& map : maps) {
    RETURN_IF_ERROR(judge(map, {OrderOf(map.values, predicted)}));
    v1::Fidelity& out = *output.mutable_maps(output.maps_size() - 1);
    if (map.units == MapUnits::kGradient) {
      RETURN_IF_ERROR(JudgeGradient(task, inputs.attribution->gradient(), data,
                                    NormalisationOf(data, plan), probe, out));
      continue;
    }
    if (!halves) {
      ASSIGN_OR_RETURN(halves, as_fitted ? RunHalves(task, own->count, *as_fitted, probe)
                                         : RunHalves(task, common.count, hiding, probe));
    }
    JudgeInfidelity(*halves, as_fitted ? fitted : map.values, map.units, out);
  }
  *evaluations = probe.evaluations();
  return output;
}

}  // namespace dermis
