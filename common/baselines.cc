#include "common/baselines.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"

#include "common/estimators.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

constexpr uint32_t kMostPixels = 1024;  // A side.

absl::Status Wrong(const std::string& key, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(key, " ", why));
}

template <typename Values>
absl::Status CheckValues(const std::string& key, const Values& values, double low, double high) {
  std::set<double> seen;
  for (const auto value : values) {
    if (!(value >= low && value <= high)) {
      return Wrong(key, absl::StrCat("has ", value, "; it must be from ", low, " to ", high));
    }
    if (!seen.insert(value).second) return Wrong(key, absl::StrCat("has ", value, " twice"));
  }
  return absl::OkStatus();
}

// What comes first of two points that are equally good.
std::tuple<double, double> Preference(const v1::BaselineTask& point) {
  if (point.has_forest()) return {point.forest().trees(), point.forest().depth()};
  return {point.logistic().c(), 0};
}

}  // namespace

absl::Status ResolveBaselines(uint32_t size, v1::BaselinesSpec& baselines) {
  if (!baselines.has_random_forest() && !baselines.has_logistic_regression()) {
    return Wrong("baselines", "names no model: random_forest, logistic_regression or both");
  }
  if (baselines.sizes().empty()) baselines.add_sizes(size);
  if (!baselines.has_folds()) baselines.set_folds(10);
  RETURN_IF_ERROR(CheckValues("baselines.sizes", baselines.sizes(), 1, kMostPixels));
  if (baselines.folds() < 2 || baselines.folds() > 100) {
    return Wrong("baselines.folds", absl::StrCat("is ", baselines.folds(), "; it must be from 2 to 100"));
  }
  if (baselines.has_random_forest()) {
    v1::RandomForestSpec& forest = *baselines.mutable_random_forest();
    if (forest.trees().empty()) {
      for (uint32_t trees : {5, 10, 20, 35, 50}) forest.add_trees(trees);
    }
    if (forest.depth().empty()) {
      for (uint32_t depth : {3, 5}) forest.add_depth(depth);
    }
    RETURN_IF_ERROR(CheckValues("baselines.random_forest.trees", forest.trees(), 1, 1000));
    RETURN_IF_ERROR(CheckValues("baselines.random_forest.depth", forest.depth(), 1, 20));
  }
  if (baselines.has_logistic_regression()) {
    v1::LogisticRegressionSpec& regression = *baselines.mutable_logistic_regression();
    if (regression.penalty().empty()) {
      regression.add_penalty(v1::PENALTY_L1);
      regression.add_penalty(v1::PENALTY_L2);
    }
    if (regression.c().empty()) {
      for (double c : {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2}) regression.add_c(c);
    }
    RETURN_IF_ERROR(CheckValues("baselines.logistic_regression.penalty", regression.penalty(),
                                v1::PENALTY_L1, v1::PENALTY_L2));
    RETURN_IF_ERROR(CheckValues("baselines.logistic_regression.c", regression.c(), 1e-12, 1e12));
  }
  return absl::OkStatus();
}

absl::Status ResolveEmbeddings(v1::EmbeddingsSpec& embeddings) {
  if (embeddings.of().empty()) {
    embeddings.add_of(v1::EMBEDDING_SOURCE_PIXELS);
    embeddings.add_of(v1::EMBEDDING_SOURCE_FEATURES);
  }
  RETURN_IF_ERROR(CheckValues("embeddings.of", embeddings.of(), v1::EMBEDDING_SOURCE_PIXELS,
                              v1::EMBEDDING_SOURCE_FEATURES));
  v1::PcaSpec& pca = *embeddings.mutable_pca();
  if (!pca.has_components()) pca.set_components(50);
  if (pca.components() < 2 || pca.components() > 500) {
    return Wrong("embeddings.pca.components",
                 absl::StrCat("is ", pca.components(), "; it must be from 2 to 500"));
  }
  v1::TsneSpec& tsne = *embeddings.mutable_tsne();
  if (!tsne.has_perplexity()) tsne.set_perplexity(30);
  if (!(tsne.perplexity() >= 2 && tsne.perplexity() <= 1000)) {
    return Wrong("embeddings.tsne.perplexity",
                 absl::StrCat("is ", tsne.perplexity(), "; it must be from 2 to 1000"));
  }
  if (!tsne.has_iterations()) tsne.set_iterations(1000);
  if (tsne.iterations() < 250 || tsne.iterations() > 100'000) {
    return Wrong("embeddings.tsne.iterations",
                 absl::StrCat("is ", tsne.iterations(), "; it must be from 250 to 100000"));
  }
  if (tsne.inputs().empty()) {
    tsne.add_inputs(v1::TSNE_INPUT_RAW);
    tsne.add_inputs(v1::TSNE_INPUT_PCA);
  }
  RETURN_IF_ERROR(CheckValues("embeddings.tsne.inputs", tsne.inputs(), v1::TSNE_INPUT_RAW,
                              v1::TSNE_INPUT_PCA));
  if (!embeddings.has_neighbours()) embeddings.set_neighbours(15);
  if (embeddings.neighbours() < 1 || embeddings.neighbours() > 1000) {
    return Wrong("embeddings.neighbours",
                 absl::StrCat("is ", embeddings.neighbours(), "; it must be from 1 to 1000"));
  }
  return absl::OkStatus();
}

std::vector<BaselineFamily> FamiliesOf(const v1::StudySpec& resolved,
                                       const v1::ImageSource& images) {
  const v1::BaselinesSpec& baselines = resolved.baselines();
  std::vector<BaselineFamily> families;
  for (const uint32_t size : baselines.sizes()) {
    v1::BaselineTask point;
    *point.mutable_images() = images;
    point.mutable_images()->set_size(size);
    if (baselines.has_random_forest()) {
      BaselineFamily& family = families.emplace_back();
      family.name = "random forest";
      family.size = size;
      point.set_seed(resolved.seed());
      for (const uint32_t trees : baselines.random_forest().trees()) {
        for (const uint32_t depth : baselines.random_forest().depth()) {
          point.mutable_forest()->set_trees(trees);
          point.mutable_forest()->set_depth(depth);
          family.points.push_back(point);
        }
      }
    }
    if (baselines.has_logistic_regression()) {
      BaselineFamily& family = families.emplace_back();
      family.name = "logistic regression";
      family.size = size;
      point.set_seed(0);
      for (const int penalty : baselines.logistic_regression().penalty()) {
        for (const double c : baselines.logistic_regression().c()) {
          point.mutable_logistic()->set_penalty(static_cast<v1::Penalty>(penalty));
          point.mutable_logistic()->set_c(c);
          family.points.push_back(point);
        }
      }
    }
  }
  return families;
}

v1::BaselineTask OnFold(const v1::BaselineTask& point, uint32_t folds, uint32_t fold) {
  v1::BaselineTask task = point;
  task.mutable_images()->mutable_split()->set_folds(folds);
  task.mutable_images()->mutable_split()->set_fold(fold);
  return task;
}

size_t ChoosePoint(const BaselineFamily& family, absl::Span<const double> accuracy) {
  // Means of the same fractions, added in another order.
  constexpr double kTie = 1e-12;
  size_t best = 0;
  for (size_t i = 1; i < family.points.size(); ++i) {
    const double more = accuracy[i] - accuracy[best];
    const bool better = more > kTie || (std::isnan(accuracy[best]) && !std::isnan(accuracy[i])) ||
                        (std::abs(more) <= kTie &&
                         Preference(family.points[i]) < Preference(family.points[best]));
    if (better) best = i;
  }
  return best;
}

bool IsOnEdge(const BaselineFamily& family, size_t chosen) {
  const auto edge = [&](auto value) {
    std::set<double> values;
    for (const v1::BaselineTask& point : family.points) values.insert(value(point));
    const double taken = value(family.points[chosen]);
    return values.size() > 1 && (taken == *values.begin() || taken == *values.rbegin());
  };
  if (family.points[chosen].has_logistic()) {
    return edge([](const v1::BaselineTask& point) { return point.logistic().c(); });
  }
  return edge([](const v1::BaselineTask& p) { return static_cast<double>(p.forest().trees()); }) ||
         edge([](const v1::BaselineTask& p) { return static_cast<double>(p.forest().depth()); });
}

v1::ExplanationSpec ExplanationOf(const v1::ExplanationSpec& resolved,
                                  const v1::BaselineTask& baseline) {
  v1::ExplanationSpec explanation = resolved;
  explanation.clear_methods();
  for (const v1::MethodSpec& method : resolved.methods()) {
    if (HasMasks(method)) *explanation.add_methods() = method;
  }
  if (baseline.has_forest()) explanation.set_output(v1::OUTPUT_KIND_PROBABILITY);
  return explanation;
}

std::string Describe(const v1::BaselineTask& point) {
  if (point.has_forest()) {
    return absl::StrCat(point.forest().trees(), " trees of depth ", point.forest().depth());
  }
  return absl::StrCat(point.logistic().penalty() == v1::PENALTY_L1 ? "l1" : "l2",
                      ", C = ", point.logistic().c());
}

}  // namespace dermis
