#include "coordinator/dashboard/question_board.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <openssl/rand.h>

#include "common/clock.h"
#include "common/status_macros.h"
#include "coordinator/dashboard/explanations.h"

namespace dermis {

using nlohmann::json;

namespace {

constexpr absl::Duration kLook = absl::Seconds(5);
constexpr char kUser[] = "dashboard";  // Its token is one for all.

std::string ClassName(const v1::ImageSetManifest& manifest, uint32_t c) {
  return c < static_cast<uint32_t>(manifest.classes_size()) ? manifest.classes(static_cast<int>(c))
                                                            : absl::StrCat("class ", c);
}

std::string MethodName(const v1::MethodSpec& method) {
  const auto* kind = v1::MethodSpec::descriptor()->FindFieldByNumber(method.kind_case());
  return kind == nullptr ? "method" : kind->name();
}

json FamiliarityOf(const v1::Familiarity& familiarity, const v1::ImageSetManifest& manifest) {
  json nearest = json::array();
  for (const v1::NearImage& near : familiarity.nearest()) {
    json one = {{"image", near.image()}, {"distance", near.distance()}};
    if (near.image() < static_cast<uint32_t>(manifest.images_size())) {
      const v1::ImageEntry& entry = manifest.images(static_cast<int>(near.image()));
      one["name"] = entry.name();
      if (!manifest.unlabelled()) one["label"] = ClassName(manifest, entry.label());
    }
    nearest.push_back(std::move(one));
  }
  return {{"distance", familiarity.distance()},
          {"threshold", familiarity.has_threshold() ? json(familiarity.threshold()) : json()},
          {"validation_images", familiarity.validation_images()},
          {"nearest", std::move(nearest)}};
}

}  // namespace

json UpdateAsJson(const v1::ExplainUpdate& update, const v1::ImageSetManifest& manifest) {
  switch (update.kind_case()) {
    case v1::ExplainUpdate::kStart: {
      json methods = json::array();
      for (const v1::MethodSpec& method : update.start().methods()) {
        methods.push_back(MethodName(method));
      }
      return {{"kind", "start"},
              {"methods", std::move(methods)},
              {"positive", ClassName(manifest, static_cast<uint32_t>(manifest.classes_size() - 1))},
              {"notes", std::vector<std::string>(update.start().notes().begin(),
                                                 update.start().notes().end())}};
    }
    case v1::ExplainUpdate::kPrediction:
      return {{"kind", "prediction"},
              {"predicted", ClassName(manifest, update.prediction().predicted())}};
    case v1::ExplainUpdate::kConfidence: {
      const v1::ExplainConfidence& confidence = update.confidence();
      json out = {{"kind", "confidence"},
                  {"unlike", confidence.unlike()},
                  {"calibrated", confidence.has_temperature()}};
      out["probabilities"] = json::array();
      for (int c = 0; c < confidence.probabilities_size(); ++c) {
        out["probabilities"].push_back({{"name", ClassName(manifest, static_cast<uint32_t>(c))},
                                        {"probability", confidence.probabilities(c)}});
      }
      if (confidence.has_familiarity()) {
        out["familiarity"] = FamiliarityOf(confidence.familiarity(), manifest);
      }
      return out;
    }
    case v1::ExplainUpdate::kMethod: {
      const v1::ExplainMethod& method = update.method();
      json out = {
          {"kind", "method"}, {"method", MethodName(method.method())}, {"maps", json::array()}};
      if (auto maps = MapsAsJson(method.payload(), method.superpixels()); maps.ok()) {
        out["maps"] = std::move(*maps);
      }
      return out;
    }
    case v1::ExplainUpdate::KIND_NOT_SET:
      break;
  }
  return {{"kind", "none"}};
}

struct QuestionBoard::Entry {
  std::shared_ptr<const v1::ImageSetManifest> manifest;
  std::string pixels;
  uint64_t question = 0;  // The desk's.
  absl::Mutex mutex;
  std::vector<json> updates ABSL_GUARDED_BY(mutex);
  uint32_t done ABSL_GUARDED_BY(mutex) = 0, total ABSL_GUARDED_BY(mutex) = 0;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  std::string error ABSL_GUARDED_BY(mutex);
  absl::Duration seen ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<std::string> QuestionBoard::Ask(const std::string& study,
                                               std::shared_ptr<const v1::ImageSetManifest> manifest,
                                               const std::string& file) {
  {
    absl::MutexLock lock(&mutex_);
    if (entries_.size() >= kAtOnce) {
      return absl::ResourceExhaustedError(
          absl::StrCat(kAtOnce, " images are being explained here: wait for one of them"));
    }
  }
  if (manifest->width() != manifest->height()) {
    return absl::InvalidArgumentError("the images of this study are not square: no picture is taken for it");
  }
  ASSIGN_OR_RETURN(std::string pixels, decoder_.Decode(file, manifest->height()));
  unsigned char random[16];
  if (RAND_bytes(random, sizeof random) != 1)
    return absl::InternalError("no random numbers can be had");
  const std::string name =
      absl::BytesToHexString({reinterpret_cast<const char*>(random), sizeof random});
  auto entry = std::make_shared<Entry>();
  entry->manifest = std::move(manifest);
  entry->pixels = pixels;
  {
    absl::MutexLock lock(&entry->mutex);
    entry->seen = Clock::Real().Now();
  }
  QuestionDesk::Hearer hearer;
  hearer.update = [entry](v1::ExplainUpdate update) {
    json one = UpdateAsJson(update, *entry->manifest);
    absl::MutexLock lock(&entry->mutex);
    entry->updates.push_back(std::move(one));
    entry->done = update.tasks_done();
    entry->total = update.tasks_total();
  };
  hearer.end = [entry](const absl::Status& status) {
    absl::MutexLock lock(&entry->mutex);
    entry->ended = true;
    entry->error = std::string(status.message());
  };
  entry->question = desk_.Ask(study, kUser, std::move(pixels), std::move(hearer));
  absl::MutexLock lock(&mutex_);
  entries_[name] = std::move(entry);
  return name;
}

std::shared_ptr<QuestionBoard::Entry> QuestionBoard::Find(const std::string& name) {
  absl::MutexLock lock(&mutex_);
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : it->second;
}

namespace {

absl::Status Gone() {
  return absl::NotFoundError("this question is over: ask again. Nothing of it is kept");
}

}  // namespace

absl::StatusOr<json> QuestionBoard::Read(const std::string& name, size_t after) {
  const std::shared_ptr<Entry> entry = Find(name);
  if (entry == nullptr) return Gone();
  absl::MutexLock lock(&entry->mutex);
  entry->seen = Clock::Real().Now();
  json updates = json::array();
  for (size_t i = after; i < entry->updates.size(); ++i) updates.push_back(entry->updates[i]);
  return json{{"updates", std::move(updates)},
              {"done", entry->done},
              {"total", entry->total},
              {"ended", entry->ended},
              {"error", entry->error}};
}

absl::StatusOr<std::string> QuestionBoard::Image(const std::string& name) {
  const std::shared_ptr<Entry> entry = Find(name);
  if (entry == nullptr) return Gone();
  return BmpOf(entry->pixels, entry->manifest->width(), entry->manifest->height());
}

void QuestionBoard::Leave(const std::string& name) {
  std::shared_ptr<Entry> entry;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = entries_.find(name);
    if (it == entries_.end()) return;
    entry = std::move(it->second);
    entries_.erase(it);
  }
  desk_.Leave(entry->question);
}

QuestionBoard::QuestionBoard(QuestionDesk& desk, Decoder& decoder)
    : desk_(desk), decoder_(decoder), sweeper_([this] { Sweep(); }) {}

QuestionBoard::~QuestionBoard() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  sweeper_.join();
}

void QuestionBoard::Sweep() {
  while (true) {
    std::vector<std::string> unseen;
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopped_), kLook)) return;
      const absl::Duration now = Clock::Real().Now();
      for (const auto& [name, entry] : entries_) {
        absl::MutexLock look(&entry->mutex);
        if (now - entry->seen > kUnseen) unseen.push_back(name);
      }
    }
    for (const std::string& name : unseen) Leave(name);
  }
}

}  // namespace dermis
