#include "tools/report/check_summary.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

#include "common/background.h"
#include "common/rank.h"
#include "common/status_macros.h"
#include "tools/report/estimators.h"
#include "tools/report/explained.h"

namespace dermis {
namespace {

// Numbers of one map by image, in the order of the results.
struct Collected {
  CheckedMap out;
  struct Areas {
    double deletion_probability, deletion_margin, insertion_probability, insertion_margin;
  };
  std::map<size_t, Areas> areas;  // By explained image.
  std::map<size_t, std::vector<double>> values;
  std::vector<double> infidelity, residual, r_squared;
  std::vector<double> max_sensitivity, noise, seeds, second_hidden;
  std::vector<double> random, random_absolute, random_ssim, bar, bar_absolute;
  // Images where random weights give a lower similarity; of how many it can be told.
  uint32_t lower = 0, lower_absolute = 0, judged = 0, judged_absolute = 0;
  std::vector<std::vector<double>> cascading, independent;
  uint32_t curves = 0;
};

Spread SpreadOf(const std::vector<double>& values) {
  Spread spread;
  spread.images = static_cast<uint32_t>(values.size());
  if (values.empty()) return spread;
  spread.low = QuantileOf(values, 0.25);
  spread.median = QuantileOf(values, 0.5);
  spread.high = QuantileOf(values, 0.75);
  return spread;
}

// Mean height by trapezoids: steps are equal.
template <typename Values>
double AreaOf(const Values& curve) {
  double sum = 0;
  for (int i = 1; i < curve.size(); ++i) sum += (curve.Get(i - 1) + curve.Get(i)) / 2;
  return sum / (curve.size() - 1);
}

// Adds a curve of any number of steps to a sum of kCurvePoints.
template <typename Values>
void AddCurve(const Values& curve, std::vector<double>& sum) {
  sum.resize(kCurvePoints, 0.0);
  for (int i = 0; i < kCurvePoints; ++i) {
    const double at = static_cast<double>(i) * (curve.size() - 1) / (kCurvePoints - 1);
    const int below = std::min(static_cast<int>(at), curve.size() - 2);
    sum[static_cast<size_t>(i)] +=
        curve.Get(below) + (at - below) * (curve.Get(below + 1) - curve.Get(below));
  }
}

// Mean over those that are defined.
template <typename Has, typename Get>
std::optional<double> MeanOf(const google::protobuf::RepeatedPtrField<v1::Similarity>& list,
                             Has has, Get get) {
  double sum = 0;
  int count = 0;
  for (const v1::Similarity& similarity : list) {
    if (!(similarity.*has)()) continue;
    sum += (similarity.*get)();
    ++count;
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

std::optional<double> MeanRank(const google::protobuf::RepeatedPtrField<v1::Similarity>& list) {
  return MeanOf(list, &v1::Similarity::has_rank, &v1::Similarity::rank);
}

std::optional<double> MeanAbsoluteRank(
    const google::protobuf::RepeatedPtrField<v1::Similarity>& list) {
  return MeanOf(list, &v1::Similarity::has_absolute_rank, &v1::Similarity::absolute_rank);
}

void Push(const std::optional<double>& value, std::vector<double>& to) {
  if (value) to.push_back(*value);
}

absl::Status AddFidelity(size_t image, const v1::Fidelity& map, Collected& to) {
  for (const v1::OutputCurve* curve : {&map.deletion(), &map.insertion()}) {
    if (map.values_size() < 1 || curve->probability_size() != map.values_size() + 1 ||
        curve->margin_size() != map.values_size() + 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("the check of ", to.out.title, ": curves and values differ in size"));
    }
  }
  to.areas[image] = {AreaOf(map.deletion().probability()), AreaOf(map.deletion().margin()),
                     AreaOf(map.insertion().probability()), AreaOf(map.insertion().margin())};
  to.values[image].assign(map.values().begin(), map.values().end());
  AddCurve(map.deletion().probability(), to.out.deletion.probability);
  AddCurve(map.deletion().margin(), to.out.deletion.margin);
  AddCurve(map.insertion().probability(), to.out.insertion.probability);
  AddCurve(map.insertion().margin(), to.out.insertion.margin);
  ++to.curves;
  if (map.has_infidelity()) to.infidelity.push_back(map.infidelity());
  to.out.infidelity_kind = map.infidelity_kind();
  return absl::OkStatus();
}

void AddStability(const v1::Stability& map, Collected& to) {
  if (map.has_max_sensitivity()) to.max_sensitivity.push_back(map.max_sensitivity());
  Push(MeanRank(map.noise()), to.noise);
  Push(MeanRank(map.seeds()), to.seeds);
  if (map.second_hidden().has_rank()) to.second_hidden.push_back(map.second_hidden().rank());
  const auto by_layer = [](const auto& list, std::vector<std::vector<double>>& sums) {
    sums.resize(static_cast<size_t>(list.size()));
    // A map that does not vary any more has nothing in common with what it was.
    for (int i = 0; i < list.size(); ++i) sums[static_cast<size_t>(i)].push_back(list[i].rank());
  };
  by_layer(map.cascading(), to.cascading);
  by_layer(map.independent(), to.independent);
  if (map.cascading().empty()) return;
  const v1::Similarity& random = map.cascading(map.cascading_size() - 1);
  to.random.push_back(random.rank());
  to.random_absolute.push_back(random.absolute_rank());
  to.random_ssim.push_back(random.ssim());
  to.out.bar_is_noise = map.seeds().empty();
  const auto& bar = to.out.bar_is_noise ? map.noise() : map.seeds();
  if (const auto rank = MeanRank(bar)) {
    to.bar.push_back(*rank);
    to.lower += random.rank() < *rank;
    ++to.judged;
  }
  if (const auto rank = MeanAbsoluteRank(bar)) {
    to.bar_absolute.push_back(*rank);
    to.lower_absolute += random.absolute_rank() < *rank;
    ++to.judged_absolute;
  }
}

Verdict VerdictOf(const Collected& map) {
  if (map.random.empty()) return Verdict::kNotChecked;
  if (std::min(map.judged, map.judged_absolute) < kFewestImages) {
    // Even so few can show that nothing is lower at all.
    const bool none =
        map.judged > 0 && map.judged_absolute > 0 && (map.lower == 0 || map.lower_absolute == 0);
    return none ? Verdict::kFlagged : Verdict::kTooFewImages;
  }
  const bool lower = SignTest(map.lower, map.judged) < 0.05 &&
                     SignTest(map.lower_absolute, map.judged_absolute) < 0.05;
  return lower ? Verdict::kPassed : Verdict::kFlagged;
}

void AddResidual(double residual, double difference, double size, Collected& to) {
  const double scale = std::max(std::abs(difference), 0.01 * size);
  if (scale > 0) to.residual.push_back(std::abs(residual) / scale);
}

// What an attribution says of itself.
void AddOwn(const v1::MethodResult& result, const v1::Payload& payload, Collected& to) {
  const v1::MethodSpec& method = result.method();
  double size = 0;
  if (method.has_lime()) {
    to.r_squared.push_back(payload.fit().r_squared());
  } else if (method.has_shapley()) {
    if (RunInBf16(result)) {
      to.out.residual_in_bf16 = true;
      return;
    }
    const v1::Attribution& fit = payload.fit();
    for (const double value : fit.values()) size += std::abs(value);
    AddResidual(fit.additivity_residual(), fit.full() - fit.hidden(), size, to);
  } else if (payload.gradient().has_additivity_residual()) {
    const v1::PixelAttribution& pixels = payload.gradient();
    for (const float value : pixels.values()) size += std::abs(value);
    AddResidual(pixels.additivity_residual(), pixels.full() - pixels.reference(), size, to);
  }
}

CheckedMap Finish(Collected& map, const std::vector<const Collected*>& priors) {
  CheckedMap& out = map.out;
  for (MeanCurve* curve : {&out.deletion, &out.insertion}) {
    for (std::vector<double>* values : {&curve->probability, &curve->margin}) {
      for (double& value : *values) value /= map.curves;
    }
  }
  const auto areas = [&](double Collected::Areas::*which) {
    std::vector<double> values;
    for (const auto& [image, area] : map.areas) values.push_back(area.*which);
    return SpreadOf(values);
  };
  out.deletion_probability = areas(&Collected::Areas::deletion_probability);
  out.deletion_margin = areas(&Collected::Areas::deletion_margin);
  out.insertion_probability = areas(&Collected::Areas::insertion_probability);
  out.insertion_margin = areas(&Collected::Areas::insertion_margin);
  for (size_t k = 0; k < priors.size(); ++k) {
    for (const auto& [image, area] : map.areas) {
      const auto prior = priors[k]->areas.find(image);
      if (prior == priors[k]->areas.end()) continue;
      ++out.deletion_against[k].images;
      ++out.insertion_against[k].images;
      out.deletion_against[k].better += area.deletion_margin < prior->second.deletion_margin;
      out.insertion_against[k].better += area.insertion_margin > prior->second.insertion_margin;
    }
  }
  out.infidelity = SpreadOf(map.infidelity);
  out.residual = SpreadOf(map.residual);
  out.r_squared = SpreadOf(map.r_squared);
  out.max_sensitivity = SpreadOf(map.max_sensitivity);
  out.noise_rank = SpreadOf(map.noise);
  out.seed_rank = SpreadOf(map.seeds);
  out.second_hidden_rank = SpreadOf(map.second_hidden);
  for (const auto& values : map.cascading) out.cascading.push_back(SpreadOf(values));
  for (const auto& values : map.independent) out.independent.push_back(SpreadOf(values));
  out.random_rank = SpreadOf(map.random);
  out.random_absolute_rank = SpreadOf(map.random_absolute);
  out.random_ssim = SpreadOf(map.random_ssim);
  out.bar_rank = SpreadOf(map.bar);
  out.bar_absolute_rank = SpreadOf(map.bar_absolute);
  out.verdict = VerdictOf(map);
  return out;
}

Spread Agreement(const Collected& a, const Collected& b) {
  std::vector<double> ranks;
  for (const auto& [image, values] : a.values) {
    const auto other = b.values.find(image);
    if (other != b.values.end()) Push(Spearman(values, other->second), ranks);
  }
  return SpreadOf(ranks);
}

// Background sets are drawn in one order: of one study they are one set where they are of one size.
std::string BackgroundText(uint32_t per_class) {
  return absl::StrCat(HiddenText(v1::HIDDEN_VALUE_BACKGROUND), ", ", per_class, " of each class");
}

std::string ReferenceOf(const v1::MethodSpec& method, const v1::ExplanationSpec& explanation) {
  const auto hiding = [&](v1::HiddenValue hidden) {
    return hidden == v1::HIDDEN_VALUE_BACKGROUND
               ? BackgroundText(explanation.hiding().background_per_class())
               : HiddenText(hidden);
  };
  switch (method.kind_case()) {
    case v1::MethodSpec::kLime:
      return hiding(method.lime().hidden());
    case v1::MethodSpec::kShapley:
      return hiding(method.shapley().hidden());
    case v1::MethodSpec::kOcclusion:
      return hiding(method.occlusion().hidden());
    case v1::MethodSpec::kRise:
      return hiding(method.rise().hidden());
    case v1::MethodSpec::kDeepShap:
    case v1::MethodSpec::kExpectedGradients:
      return BackgroundText(BackgroundPerClass(explanation));
    case v1::MethodSpec::kIntegratedGradients:
      return HiddenText(v1::HIDDEN_VALUE_TRAINING_MEAN);
    default:
      return "";
  }
}

bool Comparable(const CheckedMap& a, const CheckedMap& b) {
  return a.reference.empty() || b.reference.empty() || a.reference == b.reference;
}

// Methods by their bytes: the study may name one twice with other settings.
using Key = std::pair<std::string, std::string>;  // Method, map.

class Collector {
 public:
  explicit Collector(const v1::StudyResults& results)
      : explanation_(results.spec().explanation()) {
    std::map<std::string, int> titles;
    for (const v1::MethodSpec& method : results.spec().explanation().methods()) {
      const std::string key = method.SerializeAsString();
      if (titles_.contains(key)) continue;
      std::string title = MethodTitle(method);
      const int same = ++titles[title];
      if (same > 1) absl::StrAppend(&title, " (", same, ")");
      titles_[key] = title;
      order_[key] = titles_.size();
    }
  }

  Collected& Of(const v1::CheckResult& check, const std::string& map) {
    const std::string method = check.has_method() ? check.method().SerializeAsString() : "";
    const auto [it, fresh] = places_.try_emplace(Key(method, map), maps_.size());
    if (fresh) {
      Collected& collected = maps_.emplace_back();
      collected.out.prior = !check.has_method();
      collected.out.layer = !collected.out.prior && !map.empty();
      const std::string title = check.has_method() ? titles_[method] : "";
      collected.out.method = title;
      if (check.has_method()) {
        collected.out.reference = ReferenceOf(check.method(), explanation_);
      }
      collected.out.title = title.empty() ? map
                            : map.empty() ? title
                                          : absl::StrCat(title, " ", map);
      // Methods as the study names them, their maps as they come, the priors last.
      ranks_.push_back(check.has_method() ? order_[method] : titles_.size() + 1);
    }
    return maps_[it->second];
  }
  Collected* Find(const v1::MethodSpec& method) {
    const auto it = places_.find(Key(method.SerializeAsString(), ""));
    return it == places_.end() ? nullptr : &maps_[it->second];
  }

  std::vector<Collected*> InOrder() {
    std::vector<size_t> order(maps_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return ranks_[a] < ranks_[b]; });
    std::vector<Collected*> maps;
    for (const size_t i : order) maps.push_back(&maps_[i]);
    return maps;
  }

 private:
  const v1::ExplanationSpec& explanation_;
  std::map<std::string, std::string> titles_;
  std::map<std::string, size_t> order_;
  std::map<Key, size_t> places_;
  std::vector<Collected> maps_;
  std::vector<size_t> ranks_;
};

}  // namespace

bool Against::Shown() const { return SignTest(better, images) < 0.05; }

absl::StatusOr<CheckSummary> SummariseChecks(const v1::StudyResults& results,
                                             const ReportInputs& inputs) {
  CheckSummary summary;
  Collector collector(results);
  std::set<uint32_t> fidelity_images, stability_images;
  for (int i = 0; i < results.explained_size(); ++i) {
    const v1::ExplainedImage& explained = results.explained(i);
    for (const v1::CheckResult& check : explained.checks()) {
      const absl::StatusOr<v1::Payload> payload = check.result().task().empty()
                                                      ? absl::NotFoundError("not there yet")
                                                      : inputs.fetch_payload(check.result());
      if (!payload.ok() || !(payload->has_fidelity() || payload->has_stability())) {
        ++summary.pending;
        continue;
      }
      for (const v1::Fidelity& map : payload->fidelity().maps()) {
        fidelity_images.insert(explained.image());
        RETURN_IF_ERROR(AddFidelity(static_cast<size_t>(i), map, collector.Of(check, map.map())));
      }
      for (const v1::Stability& map : payload->stability().maps()) {
        stability_images.insert(explained.image());
        AddStability(map, collector.Of(check, map.map()));
      }
      const auto& layers = check.task().stability().layers();
      if (!layers.empty()) summary.layers.assign(layers.begin(), layers.end());
    }
    for (const v1::MethodResult& method : explained.results()) {
      Collected* const map = collector.Find(method.method());
      if (map == nullptr || method.result().task().empty()) continue;
      const absl::StatusOr<v1::Payload> payload = inputs.fetch_payload(method.result());
      if (payload.ok()) AddOwn(method, *payload, *map);
    }
  }
  summary.fidelity_images = static_cast<uint32_t>(fidelity_images.size());
  summary.stability_images = static_cast<uint32_t>(stability_images.size());

  const std::vector<Collected*> maps = collector.InOrder();
  std::vector<const Collected*> priors;
  for (const char* name : kPriorNames) {
    for (const Collected* map : maps) {
      if (map->out.prior && map->out.title == name) priors.push_back(map);
    }
  }
  if (priors.size() != kPriors) priors.clear();
  for (const Collected* a : maps) {
    std::vector<Spread>& row = summary.agreement.emplace_back();
    for (const Collected* b : maps) {
      row.push_back(Comparable(a->out, b->out) ? Agreement(*a, *b) : Spread());
    }
  }
  for (Collected* map : maps) summary.maps.push_back(Finish(*map, priors));
  return summary;
}

}  // namespace dermis
