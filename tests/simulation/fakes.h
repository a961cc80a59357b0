// Stand-ins for disk and workers' arithmetic, for tests of the coordinator's core.
#ifndef DERMIS_TESTS_SIMULATION_FAKES_H_
#define DERMIS_TESTS_SIMULATION_FAKES_H_

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/spec_yaml.h"
#include "common/split.h"
#include "common/tasks.h"
#include "coordinator/blob_index.h"
#include "coordinator/journal.h"
#include "coordinator/outbox.h"

namespace dermis {

// A disk that outlives coordinators: shared by the journals opened on it, one after the other.
struct FakeDisk {
  std::vector<std::pair<Digest, std::string>> rows;  // Task, event bytes.
  std::map<Digest, size_t> results;
  uint64_t writes = 0;
  uint64_t fail_at = 0;             // This write fails (counted from 1); 0: none.
  bool fails_after_commit = false;  // The rows are there, but the writer is told otherwise.
  std::function<void()> on_write;   // A slow disk moves the clock.
};

class MemoryJournal : public Journal {
 public:
  explicit MemoryJournal(FakeDisk& disk) : disk_(disk) {}

  absl::Status Replay(
      const std::function<absl::Status(uint64_t, const JournalEntry&)>& apply) override {
    for (size_t i = 0; i < disk_.rows.size(); ++i) {
      JournalEntry entry;
      entry.task = disk_.rows[i].first;
      if (!entry.event.ParseFromString(disk_.rows[i].second)) {
        return absl::DataLossError("row");
      }
      if (absl::Status status = apply(i + 1, entry); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Append(absl::Span<const JournalEntry> entries) override {
    if (failed_) return absl::FailedPreconditionError("failed before");
    if (disk_.on_write) disk_.on_write();
    const bool fail = ++disk_.writes == disk_.fail_at;
    if (!fail || disk_.fails_after_commit) {
      for (const JournalEntry& entry : entries) {
        disk_.rows.emplace_back(entry.task, entry.event.SerializeAsString());
        if (!entry.task.none()) disk_.results[entry.task] = disk_.rows.size() - 1;
      }
    }
    failed_ = fail;
    return fail ? absl::ResourceExhaustedError("the disk is full") : absl::OkStatus();
  }

  absl::StatusOr<v1::TaskResult> ReadResult(const Digest& task) const override {
    auto it = disk_.results.find(task);
    if (it == disk_.results.end()) return absl::NotFoundError("no result");
    v1::Event event;
    event.ParseFromString(disk_.rows[it->second].second);
    return event.task_completed().result();
  }

  absl::StatusOr<std::vector<Row>> Read(uint64_t after, size_t most) const override {
    std::vector<Row> rows;
    for (size_t i = after; i < disk_.rows.size() && rows.size() < most; ++i) {
      Row& row = rows.emplace_back();
      row.row = i + 1;
      row.entry.task = disk_.rows[i].first;
      row.entry.event.ParseFromString(disk_.rows[i].second);
    }
    return rows;
  }

 private:
  FakeDisk& disk_;
  bool failed_ = false;
};

class FakeBlobs : public BlobIndex {
 public:
  bool Has(const Digest& digest) const override { return blobs.contains(digest); }
  absl::StatusOr<std::string> Read(const Digest& digest) const override {
    auto it = blobs.find(digest);
    if (it == blobs.end()) return absl::NotFoundError("no such blob");
    return it->second;
  }
  uint64_t Size(const Digest& digest) const override {
    auto it = blobs.find(digest);
    return it == blobs.end() ? 0 : it->second.size();
  }
  void Going(const Digest& digest) override { going.insert(digest); }
  void Keep(const Digest& digest) override { going.erase(digest); }
  void RemoveGoing(const Digest& digest) override {
    if (going.erase(digest) == 1) Remove(digest);
  }
  void Remove(const Digest& digest) {
    const auto it = blobs.find(digest);
    if (it == blobs.end()) return;
    graveyard[digest] = std::move(it->second);
    blobs.erase(it);
  }
  uint64_t FreeBytes() const override { return 1ull << 40; }
  bool LowDisk() const override { return low; }
  std::string Put(const std::string& bytes) {
    const Digest digest = Sha256Of(bytes);
    blobs[digest] = bytes;
    Keep(digest);
    return digest.bytes();
  }
  std::map<Digest, std::string> blobs;
  std::set<Digest> going;
  std::map<Digest, std::string> graveyard;  // What was here: whoever made it can bring it again.
  bool low = false;
};

// Keeps what was sent.
class RecordingOutbox : public Outbox {
 public:
  void Send(ConnectionId connection, const v1::Directive& directive) override {
    sent[connection].push_back(directive);
  }
  void Close(ConnectionId connection, const std::string& why) override { closed[connection] = why; }
  std::map<ConnectionId, std::vector<v1::Directive>> sent;
  std::map<ConnectionId, std::string> closed;
};

// `images` of two classes in turn, no pixels behind them.
inline std::shared_ptr<const v1::ImageSetManifest> FakeManifest(int images) {
  auto manifest = std::make_shared<v1::ImageSetManifest>();
  manifest->set_format(1);
  manifest->set_name("fake");
  manifest->set_height(32);
  manifest->set_width(32);
  manifest->add_classes("benign");
  manifest->add_classes("malignant");
  v1::ImageChunk& chunk = *manifest->add_chunks();
  chunk.set_pixels(Sha256Of("pixels").bytes());
  chunk.set_count(static_cast<uint32_t>(images));
  for (int i = 0; i < images; ++i) {
    v1::ImageEntry& entry = *manifest->add_images();
    entry.set_name(absl::StrFormat("%05d", i));
    entry.set_digest(Sha256Of(absl::StrCat("image ", i)).bytes());
    entry.set_label(static_cast<uint32_t>(i % 2));
  }
  return manifest;
}

// With the pixels that FakeManifest names. Gives the manifest's digest.
inline std::string PutSet(FakeBlobs& blobs, const v1::ImageSetManifest& manifest) {
  blobs.Put("pixels");
  return blobs.Put(manifest.SerializeAsString());
}

// A small resolved study; `more` is YAML appended at the end.
inline absl::StatusOr<v1::StudySpec> FakeSpec(const std::string& name, int epochs, int patience,
                                              const std::string& explanation) {
  std::string yaml = absl::StrCat(
      "name: ", name, "\nimages: {set: fake, size: 32, split: {test: 0.3, validation: 0.2}}\n",
      "training:\n  logical_shards: 4\n  batch_size: 8\n  epochs: ", epochs, "\n");
  if (patience > 0) absl::StrAppend(&yaml, "  early_stopping: {patience: ", patience, "}\n");
  absl::StrAppend(&yaml, "evaluation: {batch_size: 5}\n", explanation);
  absl::StatusOr<v1::StudySpec> spec = ParseStudyYaml(yaml, "fake.yaml");
  if (!spec.ok()) return spec.status();
  return ResolveSpec(*spec);
}

inline constexpr char kFakeExplanation[] =
    "explanation:\n"
    "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 1}}\n"
    "  methods:\n"
    "    - lime: {samples: 260}\n"
    "    - shapley: {permutations: 3}\n"
    "    - grad_cam: {}\n"
    "    - activation_maps: {}\n";

// A number in [0, 1) that depends on the text alone.
inline double FakeNumber(const std::string& text) {
  const Digest digest = Sha256Of(text);
  return (digest.array()[0] * 256 + digest.array()[1]) / 65536.0;
}

// Validation loss falls, then rises after some epoch that depends on the recipe.
inline v1::TrainOutput FakeState(const v1::Recipe& recipe, const std::string& numerics_class,
                                 uint64_t step, uint64_t steps_per_epoch, FakeBlobs& blobs) {
  const std::string key = RecipeDigest(recipe, numerics_class)->hex();
  const int turn = 2 + static_cast<int>(FakeNumber(key) * 4);
  v1::TrainOutput output;
  output.set_step(step);
  output.set_steps_per_epoch(steps_per_epoch);
  output.set_state(blobs.Put(absl::StrCat("state ", key, step)));
  output.set_last_model(blobs.Put(absl::StrCat("model ", key, step)));
  for (uint32_t epoch = 1; epoch <= step / steps_per_epoch; ++epoch) {
    v1::EpochMetrics& metrics = *output.add_epochs();
    metrics.set_epoch(epoch);
    metrics.set_validation_loss(1.0 + std::abs(static_cast<int>(epoch) - turn));
    metrics.set_validation_accuracy(0.5);
    if (output.best_epoch() == 0 ||
        Better(v1::SELECTION_METRIC_VALIDATION_LOSS, metrics,
               output.epochs(static_cast<int>(output.best_epoch()) - 1))) {
      output.set_best_epoch(epoch);
    }
  }
  if (output.best_epoch() > 0) {
    output.set_best_model(
        blobs.Put(absl::StrCat("model ", key, output.best_epoch() * steps_per_epoch)));
  }
  return output;
}

inline const std::vector<uint32_t>& PartOf(const v1::EvaluateTask& task, const Split& split) {
  return task.part() == v1::SPLIT_PART_VALIDATION ? split.validation : split.test;
}

// The tiny payload of a unit: a function of the task alone. `test`: the split's test images.
inline v1::Payload FakePayload(const v1::TaskSpec& task, const Split& split) {
  v1::Payload payload;
  const std::string key = TaskDigest(task)->hex();
  switch (task.kind_case()) {
    case v1::TaskSpec::kEvaluate:
      payload.mutable_evaluate()->set_classes(2);
      for (uint32_t i = 0; i < task.evaluate().count(); ++i) {
        const uint32_t image = PartOf(task.evaluate(), split)[task.evaluate().first() + i];
        payload.mutable_evaluate()->add_images(image);
        payload.mutable_evaluate()->add_logits(
            static_cast<float>(FakeNumber(absl::StrCat(key, "-", image))));
        payload.mutable_evaluate()->add_logits(
            static_cast<float>(FakeNumber(absl::StrCat(key, "+", image))));
      }
      break;
    case v1::TaskSpec::kSuperpixels:
      payload.mutable_superpixels()->set_height(1);
      payload.mutable_superpixels()->set_width(2);
      payload.mutable_superpixels()->set_count(2);
      payload.mutable_superpixels()->set_labels(std::string("\0\0\1\0", 4));
      break;
    case v1::TaskSpec::kPerturb: {
      const v1::Perturbation& perturbation = task.perturb().perturbation();
      uint32_t rows;
      if (perturbation.has_lime()) {
        rows = std::min(kLimeRun, perturbation.lime().samples() - task.perturb().run() * kLimeRun);
      } else if (!perturbation.has_shapley()) {
        rows = std::min(kMaskRun, static_cast<uint32_t>(RowCount(perturbation)) -
                                      task.perturb().run() * kMaskRun);
      } else {
        const uint32_t pairs = std::min(kShapleyRun, perturbation.shapley().permutations() -
                                                         task.perturb().run() * kShapleyRun);
        rows = 2 * pairs + (task.perturb().run() == 0 ? 2 : 0);
      }
      payload.mutable_perturb()->set_classes(2);
      for (uint32_t i = 0; i < 2 * rows; ++i) {
        payload.mutable_perturb()->add_logits(static_cast<float>(key[i % 64]) +
                                              static_cast<float>(i));
      }
      break;
    }
    case v1::TaskSpec::kFit:
      payload.mutable_fit()->set_count(2);
      payload.mutable_fit()->add_values(FakeNumber(key));
      payload.mutable_fit()->add_values(1.0);
      if (task.fit().units() > 0) {  // Judged by a tolerance.
        payload.mutable_fit()->add_standard_errors(FakeNumber(key + " error"));
        payload.mutable_fit()->add_standard_errors(0.0);
      }
      break;
    case v1::TaskSpec::kActivations: {
      v1::LayerMaps& layer = *payload.mutable_activations()->add_layers();
      layer.set_layer("conv1");
      layer.set_channels(1);
      layer.set_height(1);
      layer.set_width(1);
      if (task.activations().cam() != v1::CAM_KIND_UNSPECIFIED) {
        layer.add_cam(static_cast<float>(FakeNumber(key)));
        if (task.activations().cam() == v1::CAM_KIND_GRAD_CAM_PLUS_PLUS ||
            task.activations().cam() == v1::CAM_KIND_LAYER_CAM) {
          layer.add_cam(0.25f);
        }
        break;
      }
      if (!task.activations().cams_only()) layer.add_activations(static_cast<float>(FakeNumber(key)));
      layer.add_grad_cam(0.5f);
      break;
    }
    case v1::TaskSpec::kLesion:
      payload.mutable_lesion()->set_classes(2);
      for (uint32_t p = 0; p < 1 + 3 * task.lesion().placements(); ++p) {
        v1::LesionPlacement& placement = *payload.mutable_lesion()->add_placements();
        placement.mutable_areas()->Resize(4, 0.25);
        placement.mutable_logits()->Resize(32, static_cast<float>(FakeNumber(key)));
      }
      break;
    case v1::TaskSpec::kLesionSummary: {
      v1::LesionSummary& summary = *payload.mutable_lesion_summary();
      summary.set_images(static_cast<uint32_t>(task.lesion_summary().images_size()));
      summary.set_lesions(1);
      summary.mutable_shares()->Resize(4, 0.25);
      summary.mutable_areas()->Resize(4, 0.25);
      summary.mutable_values()->Resize(4, FakeNumber(key));
      v1::LesionFinding& finding = *summary.add_findings();
      finding.set_hypothesis(task.lesion_summary().primary());
      finding.set_null(task.lesion_summary().null());
      finding.set_p(0.5);
      finding.set_adjusted_p(0.5);
      break;
    }
    case v1::TaskSpec::kShortcut:
      for (int i = 0; i <= task.shortcut().variants_size(); ++i) {
        v1::ShortcutArea& area = *payload.mutable_shortcut()->add_areas();
        area.set_area(0.5);
        area.set_high(1);
      }
      break;
    case v1::TaskSpec::kFidelity: {
      const int maps = task.fidelity().has_priors() ? 3 : 1;
      for (int k = 0; k < maps; ++k) {
        v1::Fidelity& map = *payload.mutable_fidelity()->add_maps();
        map.add_values(FakeNumber(absl::StrCat(key, k)));
        for (v1::OutputCurve* curve : {map.mutable_deletion(), map.mutable_insertion()}) {
          for (int i = 0; i < 2; ++i) {
            curve->add_probability(FakeNumber(absl::StrCat(key, k, i)));
            curve->add_margin(i);
          }
        }
      }
      break;
    }
    case v1::TaskSpec::kStability: {
      const v1::StabilityTask& stability = task.stability();
      const int maps = stability.has_priors() ? 3 : 1;
      for (int k = 0; k < maps; ++k) {
        v1::Stability& map = *payload.mutable_stability()->add_maps();
        const auto add = [&](uint32_t count, auto* list) {
          for (uint32_t i = 0; i < count; ++i) list->Add()->set_rank(FakeNumber(absl::StrCat(key, k, i)));
        };
        add(stability.noise_draws(), map.mutable_noise());
        add(stability.seeds() * (stability.seeds() + 1) / 2, map.mutable_seeds());
        add(static_cast<uint32_t>(stability.layers_size()), map.mutable_cascading());
        add(static_cast<uint32_t>(stability.layers_size()), map.mutable_independent());
      }
      break;
    }
    case v1::TaskSpec::kGradient: {
      v1::PixelAttribution& pixels = *payload.mutable_gradient();
      pixels.set_height(1);
      pixels.set_width(1);
      pixels.set_channels(3);
      for (int c = 0; c < 3; ++c) pixels.add_values(static_cast<float>(FakeNumber(key)));
      if (task.gradient().has_background()) pixels.set_background(std::string(32, 'b'));
      break;
    }
    case v1::TaskSpec::kBaseline: {
      v1::BaselineOutput& baseline = *payload.mutable_baseline();
      const double number = FakeNumber(key);
      baseline.set_accuracy(number - std::floor(number));
      if (!task.baseline().images().split().has_fold()) {
        const int size = static_cast<int>(task.baseline().images().size());
        baseline.set_model(key);
        baseline.mutable_importance()->Resize(3 * size * size, 0.5f);
      }
      break;
    }
    case v1::TaskSpec::kPca:
      payload.mutable_pca()->add_images(0);
      payload.mutable_pca()->set_components(1);
      payload.mutable_pca()->add_scores(static_cast<float>(FakeNumber(key)));
      payload.mutable_pca()->add_variance(1);
      break;
    case v1::TaskSpec::kTsne:
      payload.mutable_tsne()->add_images(0);
      payload.mutable_tsne()->mutable_points()->Resize(2, static_cast<float>(FakeNumber(key)));
      break;
    case v1::TaskSpec::kSeparation:
      for (int i = 0; i < task.separation().tsne_size() + 2; ++i) {
        payload.mutable_separation()->add_spaces()->set_area(0.5);
      }
      break;
    default:
      payload.set_noop(task.noop().index());
  }
  return payload;
}

inline v1::Completion FakeCompletion(const v1::TaskSpec& task, const v1::Payload& payload,
                                     const std::string& worker) {
  v1::Completion completion;
  *completion.mutable_spec() = task;
  completion.mutable_result()->set_task(TaskDigest(task)->bytes());
  completion.mutable_result()->set_payload(payload.SerializeAsString());
  completion.mutable_attempt()->set_worker(worker);
  completion.mutable_attempt()->set_seconds(0.5);
  completion.mutable_attempt()->set_started_unix_ms(1000);
  return completion;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_SIMULATION_FAKES_H_
