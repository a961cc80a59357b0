#include "tools/dermis/results_json.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"

#include "common/baselines.h"
#include "common/status_macros.h"
#include "tools/dermis/explain_output.h"
#include "tools/dermis/output.h"
#include "tools/report/check_summary.h"
#include "tools/report/checks.h"
#include "tools/report/judgement.h"

namespace dermis {

Json MessageJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  return status.ok() ? Json::parse(text) : Json();
}

Json PayloadJson(v1::Payload payload) {
  if (payload.has_activations()) {
    for (v1::LayerMaps& layer : *payload.mutable_activations()->mutable_layers()) {
      layer.clear_activations();
    }
  }
  return MessageJson(payload);
}

Json EstimateJson(const Estimate& estimate) {
  return {{"value", estimate.value}, {"interval", {estimate.interval.low, estimate.interval.high}}};
}

namespace {

// The result's payload, of whatever kind.
Json PayloadOf(const v1::TaskResult& result, const ReportInputs& inputs) {
  if (result.task().empty()) return nullptr;
  absl::StatusOr<v1::Payload> payload = inputs.fetch_payload(result);
  if (!payload.ok()) return nullptr;
  return PayloadJson(*std::move(payload));
}

Json LabelOf(const v1::ImageSetManifest& manifest, uint32_t image) {
  if (manifest.unlabelled() || image >= static_cast<uint32_t>(manifest.images_size())) return nullptr;
  return manifest.images(static_cast<int>(image)).label();
}

Json SpreadOf(const Spread& spread) {
  if (spread.images == 0) return nullptr;
  return {{"images", spread.images}, {"quartiles", {spread.low, spread.median, spread.high}}};
}

Json SpreadsOf(const std::vector<Spread>& spreads) {
  Json list = Json::array();
  for (const Spread& spread : spreads) list.push_back(SpreadOf(spread));
  return list;
}

Json SpreadOf(const SeedSpread& spread) {
  return {{"mean", spread.mean},
          {"deviation", spread.deviation},
          {"low", spread.low},
          {"high", spread.high},
          {"values", spread.values}};
}

// Beside the one model's intervals what its setting comes to with other seeds.
Json SeedsOf(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) {
  const absl::StatusOr<OverSeeds> judged = JudgeSeedsOf(results, manifest);
  if (!judged.ok()) {
    return Json::object({{"spread", absl::StrCat("not available: ", judged.status().message())}});
  }
  Json json = {
      {"trainings", judged->areas.values.size()},
      {"first", {{"area", EstimateJson(judged->area)}, {"accuracy", EstimateJson(judged->accuracy)}}}};
  if (!judged->averaged_area) {
    json["spread"] = kOneTraining;
    return json;
  }
  json["spread"] = {{"area", SpreadOf(judged->areas)}, {"accuracy", SpreadOf(judged->accuracies)}};
  json["averaged_area"] = EstimateJson(*judged->averaged_area);
  return json;
}

const char* NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPassed:
      return "passed";
    case Verdict::kFlagged:
      return "flagged";
    case Verdict::kTooFewImages:
      return "too few images";
    case Verdict::kNotChecked:
      break;
  }
  return "not checked";
}

Json CurvesOf(const MeanCurve& curve, const Spread& probability, const Spread& margin,
              const std::array<Against, kPriors>& against) {
  Json better = Json::object();
  for (size_t k = 0; k < kPriors; ++k) {
    better[kPriorNames[k]] = {{"images", against[k].images}, {"better", against[k].better}};
  }
  return {{"mean_probability", curve.probability},
          {"mean_margin", curve.margin},
          {"area_probability", SpreadOf(probability)},
          {"area_margin", SpreadOf(margin)},
          {"better_than", better}};
}

Json MapOf(const CheckedMap& map) {
  Json json = {{"map", map.title}, {"prior", map.prior}};
  if (!map.deletion.probability.empty()) {
    json["deletion"] =
        CurvesOf(map.deletion, map.deletion_probability, map.deletion_margin, map.deletion_against);
    json["insertion"] = CurvesOf(map.insertion, map.insertion_probability, map.insertion_margin,
                                 map.insertion_against);
    json["infidelity"] = SpreadOf(map.infidelity);
    json["infidelity_kind"] = v1::InfidelityKind_Name(map.infidelity_kind);
    json["additivity_residual"] = SpreadOf(map.residual);
    json["r_squared"] = SpreadOf(map.r_squared);
  }
  json["max_sensitivity"] = SpreadOf(map.max_sensitivity);
  json["rank_under_noise"] = SpreadOf(map.noise_rank);
  json["rank_over_seeds"] = SpreadOf(map.seed_rank);
  json["rank_second_hidden"] = SpreadOf(map.second_hidden_rank);
  json["cascading"] = SpreadsOf(map.cascading);
  json["independent"] = SpreadsOf(map.independent);
  json["randomised"] = {{"rank", SpreadOf(map.random_rank)},
                        {"absolute_rank", SpreadOf(map.random_absolute_rank)},
                        {"ssim", SpreadOf(map.random_ssim)}};
  json["verdict"] = NameOf(map.verdict);
  return json;
}

Json ChecksOf(const CheckSummary& summary) {
  Json maps = Json::array(), agreement = Json::array();
  for (const CheckedMap& map : summary.maps) maps.push_back(MapOf(map));
  for (const std::vector<Spread>& row : summary.agreement) agreement.push_back(SpreadsOf(row));
  return {{"fidelity_images", summary.fidelity_images},
          {"stability_images", summary.stability_images},
          {"pending", summary.pending},
          {"layers", summary.layers},
          {"maps", maps},
          {"agreement", agreement},
          {"flags", CheckFlags(summary)}};
}

}  // namespace

absl::StatusOr<std::string> ResultsJson(const v1::StudyResults& results,
                                        const ReportInputs& inputs) {
  const v1::ImageSetManifest& manifest = inputs.images->manifest();
  const int classes = manifest.classes_size();
  const auto entry = [&](uint32_t image) -> Json {
    if (image >= static_cast<uint32_t>(manifest.images_size())) return image;
    return manifest.images(static_cast<int>(image)).name();
  };
  Json json = {{"study", results.status().id()},
               {"phase", PhaseName(results.status())},
               {"spec", MessageJson(results.spec())},
               {"model", absl::BytesToHexString(results.model().weights())}};
  const auto scores = [&](const auto& images, const auto& logits) {
    Json list = Json::array();
    for (int i = 0; i < images.size() && (i + 1) * classes <= logits.size(); ++i) {
      const float* const row = logits.data() + i * classes;
      list.push_back({{"image", entry(images.Get(i))},
                      {"label", LabelOf(manifest, images.Get(i))},
                      {"logits", std::vector<float>(row, row + classes)}});
    }
    return list;
  };
  json["test"] = scores(results.test_images(), results.test_logits());
  json["validation"] = scores(results.validation_images(), results.validation_logits());
  json["test_use"] = {{"evaluations", results.test_use().evaluations()},
                      {"models", results.test_use().models()},
                      {"studies", results.test_use().studies()}};
  Json each = Json::array();
  for (const v1::SeedResult& seed : results.seeds()) {
    each.push_back({{"seed", seed.seed()},
                    {"model", absl::BytesToHexString(seed.weights())},
                    {"stop_epoch", seed.stop_epoch()},
                    {"test", scores(results.test_images(), seed.test_logits())},
                    {"validation", scores(results.validation_images(), seed.validation_logits())}});
  }
  json["seeds"] = SeedsOf(results, manifest);
  json["seeds"]["each"] = std::move(each);
  Json baselines = Json::array();
  for (const v1::BaselineResult& baseline : results.baselines()) {
    Json points = Json::array();
    for (const v1::BaselinePoint& point : baseline.points()) {
      points.push_back({{"point", Describe(point.task())},
                        {"mean", point.mean()},
                        {"folds", std::vector<double>(point.accuracy().begin(), point.accuracy().end())}});
    }
    baselines.push_back({{"name", baseline.name()},
                         {"size", baseline.size()},
                         {"points", std::move(points)},
                         {"chosen", baseline.has_chosen() ? Json(baseline.chosen()) : Json()},
                         {"on_edge", baseline.on_edge()},
                         {"test", scores(results.test_images(), baseline.test_logits())},
                         {"validation", scores(results.validation_images(), baseline.validation_logits())}});
  }
  json["baselines"] = std::move(baselines);
  Json embeddings = Json::array();
  for (const v1::SummaryResult& embedding : results.embeddings()) {
    embeddings.push_back({{"task", MessageJson(embedding.task())}, {"result", PayloadOf(embedding.result(), inputs)}});
  }
  json["embeddings"] = std::move(embeddings);
  Json explained = Json::array();
  for (const v1::ExplainedImage& image : results.explained()) {
    Json attributions = Json::array(), checks = Json::array();
    for (const v1::MethodResult& method : image.results()) {
      attributions.push_back({{"method", MessageJson(method.method())},
                              {"result", PayloadOf(method.result(), inputs)},
                              {"margin", PayloadOf(method.margin(), inputs)}});
    }
    Json baselines = Json::array();
    for (const v1::ExplainedBaseline& baseline : image.baselines()) {
      Json of_baseline = Json::array();
      for (const v1::MethodResult& method : baseline.results()) {
        of_baseline.push_back({{"method", MessageJson(method.method())},
                               {"output", v1::OutputKind_Name(method.task().fit().output())},
                               {"result", PayloadOf(method.result(), inputs)},
                               {"margin", PayloadOf(method.margin(), inputs)}});
      }
      const bool known = baseline.baseline() < static_cast<uint32_t>(results.baselines_size());
      baselines.push_back(
          {{"baseline", baseline.baseline()},
           {"model", known
                         ? Json(ModelKey(results.baselines(static_cast<int>(baseline.baseline()))))
                         : Json()},
           {"attributions", std::move(of_baseline)}});
    }
    for (const v1::CheckResult& check : image.checks()) {
      checks.push_back({{"method", check.has_method() ? MessageJson(check.method()) : Json()},
                        {"result", PayloadOf(check.result(), inputs)}});
    }
    explained.push_back({{"image", entry(image.image())},
                         {"why", image.why()},
                         {"attributions", std::move(attributions)},
                         {"baselines", std::move(baselines)},
                         {"checks", std::move(checks)}});
  }
  json["explained"] = std::move(explained);
  json["lesion_test"] = PayloadOf(results.lesion_test().result(), inputs);
  json["shortcut"] = PayloadOf(results.shortcut().result(), inputs);
  ASSIGN_OR_RETURN(const CheckSummary summary, SummariseChecks(results, inputs));
  json["checks"] = ChecksOf(summary);
  return json.dump();
}

}  // namespace dermis
