#include "coordinator/planners/embeddings.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"

#include "common/baselines.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr uint32_t kDraws = 2000;
// Beyond kMostProducts components are drawn, without products; then the time of all distances is
// the bound.
constexpr size_t kMostEmbedded = 50'000;

}  // namespace

absl::Status EmbeddingPlanner::Check(const v1::StudySpec& study,
                                     const v1::ImageSetManifest& manifest, const Split& split) {
  if (!study.has_embeddings()) return absl::OkStatus();
  const size_t images = split.training.size() + split.validation.size() + split.test.size();
  const auto in_set = static_cast<size_t>(manifest.images_size());
  if (in_set > kMostEmbedded) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embeddings: the set has ", in_set, " images; at most ", kMostEmbedded, " are taken"));
  }
  const auto& inputs = study.embeddings().tsne().inputs();
  if (in_set > kMostProducts &&
      std::find(inputs.begin(), inputs.end(), v1::TSNE_INPUT_RAW) != inputs.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embeddings.tsne.inputs: of more than ", kMostProducts, " images (the set has ", in_set,
        ") the distances of raw values do not fit into memory; give inputs: [pca]"));
  }
  if (images < 3 * study.embeddings().tsne().perplexity() + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("embeddings.tsne.perplexity is ", study.embeddings().tsne().perplexity(),
                     "; of ", images, " images it can be at most a third"));
  }
  if (manifest.classes_size() != 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "embeddings: they are judged by two classes, the image set has ", manifest.classes_size()));
  }
  if (manifest.unlabelled()) {
    return absl::InvalidArgumentError(
        "embeddings: they are judged by the images' labels, and there are none");
  }
  const auto both = [&](const std::vector<uint32_t>& part) {
    std::set<uint32_t> labels;
    for (const uint32_t image : part) labels.insert(manifest.images(static_cast<int>(image)).label());
    return labels.size() == 2;
  };
  for (const int of : study.embeddings().of()) {
    if (of != v1::EMBEDDING_SOURCE_FEATURES) continue;
    if (study.has_model() && study.model().format() != v1::MODEL_FORMAT_SAFETENSORS) {
      return absl::InvalidArgumentError(
          "embeddings.of: a foreign model is a black box and shows no features; give of: [pixels]");
    }
    if (split.training.empty()) {
      return absl::InvalidArgumentError(
          "embeddings.of: features of test images are judged by their neighbours among training "
          "images, and there are none; give of: [pixels]");
    }
    if (!both(split.test) || !both(split.training)) {
      return absl::InvalidArgumentError(
          "embeddings.of: features need images of both classes in the test and the training split");
    }
  }
  return absl::OkStatus();
}

EmbeddingPlanner::EmbeddingPlanner(const v1::StudySpec& study, v1::ImageSource images,
                                   std::string numerics_class)
    : spec_(study.embeddings()),
      seed_(study.seed()),
      images_(std::move(images)),
      numerics_class_(std::move(numerics_class)),
      sources_left_(static_cast<uint32_t>(spec_.of_size())),
      tasks_total_(static_cast<uint64_t>(spec_.of_size()) *
                   (2 + static_cast<uint64_t>(spec_.tsne().inputs_size()))) {}

absl::StatusOr<EmbeddingPlanner::Wants> EmbeddingPlanner::Start() {
  Wants wants;
  for (const int of : spec_.of()) {
    if (of != v1::EMBEDDING_SOURCE_PIXELS) continue;
    v1::PcaTask pca;
    *pca.mutable_images() = images_;
    RETURN_IF_ERROR(Add(std::move(pca), wants));
  }
  return wants;
}

absl::StatusOr<EmbeddingPlanner::Wants> EmbeddingPlanner::OnModel(const v1::ModelRef& model,
                                                                   const v1::ImageSource& images) {
  Wants wants;
  for (const int of : spec_.of()) {
    if (of != v1::EMBEDDING_SOURCE_FEATURES) continue;
    v1::PcaTask pca;
    *pca.mutable_model() = model;
    *pca.mutable_images() = images;
    RETURN_IF_ERROR(Add(std::move(pca), wants));
  }
  return wants;
}

absl::Status EmbeddingPlanner::Add(v1::PcaTask pca, Wants& wants) {
  --sources_left_;
  pca.set_components(spec_.pca().components());
  v1::TaskSpec task;
  *task.mutable_pca() = pca;
  ASSIGN_OR_RETURN(const Digest pca_digest, AddTask(std::move(task), {}, wants));

  v1::SeparationTask separation;
  *separation.mutable_pca() = pca;
  std::vector<Digest> needs = {pca_digest};
  for (const int input : spec_.tsne().inputs()) {
    v1::TsneTask tsne;
    *tsne.mutable_pca() = pca;
    tsne.set_input(static_cast<v1::TsneInput>(input));
    tsne.set_perplexity(spec_.tsne().perplexity());
    tsne.set_iterations(spec_.tsne().iterations());
    *separation.add_tsne() = tsne;
    v1::TaskSpec next;
    *next.mutable_tsne() = std::move(tsne);
    ASSIGN_OR_RETURN(const Digest digest, AddTask(std::move(next), {pca_digest}, wants));
    needs.push_back(digest);
  }
  separation.set_neighbours(spec_.neighbours());
  separation.set_draws(kDraws);
  separation.set_seed(seed_);
  v1::TaskSpec last;
  *last.mutable_separation() = std::move(separation);
  return AddTask(std::move(last), needs, wants).status();
}

absl::StatusOr<Digest> EmbeddingPlanner::AddTask(v1::TaskSpec task,
                                                 const std::vector<Digest>& needs, Wants& wants) {
  task = MakeTask(std::move(task), numerics_class_);
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(task));
  tasks_.emplace_back(digest, task);
  graph_.Add(digest, std::move(task), needs, wants);
  return digest;
}

}  // namespace dermis
