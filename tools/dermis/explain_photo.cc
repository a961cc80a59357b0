#include "tools/dermis/explain_photo.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include <unistd.h>

#include "common/files.h"
#include "common/image_set.h"
#include "common/model_spec.h"
#include "common/status_macros.h"
#include "common/tls.h"
#include "dermis/v1/question.grpc.pb.h"
#include "tools/dermis/client.h"
#include "tools/dermis/connect.h"
#include "tools/dermis/explain_output.h"
#include "tools/dermis/results_json.h"
#include "tools/dermis/study_file.h"
#include "tools/dermis/submit.h"
#include "tools/ingest/decode.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

// Larger files are no photographs; decoding bounds the pixels.
constexpr uintmax_t kMostFile = 64 << 20;

// The image that was asked about, as a set of its own: for what draws explanations of sets.
class OneImage : public ImageSet {
 public:
  OneImage(const v1::ImageSetManifest& of, std::string name, std::string pixels)
      : pixels_(std::move(pixels)) {
    manifest_.set_height(of.height());
    manifest_.set_width(of.width());
    *manifest_.mutable_classes() = of.classes();
    manifest_.set_unlabelled(true);
    manifest_.add_images()->set_name(std::move(name));
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t) const override {
    return std::string_view(pixels_);
  }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override {
    return absl::NotFoundError("it has no mask");
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("it has no chunks");
  }

 private:
  const std::string pixels_;
};

absl::Status Ask(v1::Questions::Stub& questions, const v1::ExplainRequest& request,
                 const std::function<void(v1::ExplainUpdate)>& see) {
  grpc::ClientContext context;
  const auto reader = questions.Explain(&context, request);
  const Canceller canceller(context);
  v1::ExplainUpdate update;
  while (reader->Read(&update)) see(std::move(update));
  const grpc::Status end = reader->Finish();
  if (Interrupted()) return absl::CancelledError("interrupted");
  if (end.ok()) return absl::OkStatus();
  const std::string what = absl::StrCat("study ", request.study());
  // A coordinator that is gone says nothing, these are gRPC's words; one that is there says what to
  // do.
  const bool gone = end.error_code() == grpc::StatusCode::UNAVAILABLE &&
                    !absl::StrContains(end.error_message(), "ask again") &&
                    !absl::StrContains(end.error_message(), "dermis cluster");
  if (!gone) return ToAbsl(end, what);
  return absl::UnavailableError(absl::StrCat(what, ": ", end.error_message(),
                                             ". Nothing of a question outlives the coordinator: "
                                             "see dermis cluster status, then ask again"));
}

std::string NameOf(const v1::ImageSetManifest& manifest, uint32_t c) {
  return c < static_cast<uint32_t>(manifest.classes_size()) ? manifest.classes(static_cast<int>(c))
                                                            : absl::StrCat("class ", c);
}

const v1::ImageEntry* EntryOf(const v1::ImageSetManifest& manifest, uint32_t image) {
  return image < static_cast<uint32_t>(manifest.images_size())
             ? &manifest.images(static_cast<int>(image))
             : nullptr;
}

std::vector<std::string> KeysOf(const v1::ExplainStart& start) {
  v1::ExplanationSpec spec;
  *spec.mutable_methods() = start.methods();
  return MethodKeys(spec);
}

std::string KeyOf(const PhotoAnswer& answer, const v1::ExplainMethod& method) {
  const std::vector<std::string> keys = KeysOf(answer.start);
  for (int m = 0; m < answer.start.methods_size(); ++m) {
    if (answer.start.methods(m).kind_case() == method.method().kind_case()) return keys[m];
  }
  return "unknown";
}

v1::TaskResult Inline(const std::string& task, const v1::Payload& payload) {
  v1::TaskResult result;
  result.set_task(task);
  payload.SerializeToString(result.mutable_payload());
  return result;
}

v1::StudyResults ResultsOf(const PhotoAnswer& answer, const v1::ImageSetManifest& manifest) {
  v1::StudyResults results;
  *results.mutable_spec()->mutable_explanation()->mutable_methods() = answer.start.methods();
  results.add_test_images(0);
  for (uint32_t c = 0; c < static_cast<uint32_t>(manifest.classes_size()); ++c) {
    results.add_test_logits(c == answer.prediction.predicted() ? 1 : 0);
  }
  v1::ExplainedImage& image = *results.add_explained();
  for (const v1::MethodSpec& asked : answer.start.methods()) {
    for (const v1::ExplainMethod& method : answer.methods) {
      if (method.method().kind_case() != asked.kind_case()) continue;
      v1::MethodResult& result = *image.add_results();
      *result.mutable_method() = asked;
      *result.mutable_task() = method.task();
      *result.mutable_result() = Inline("method", method.payload());
      if (method.task().has_fit()) {
        results.mutable_spec()->mutable_explanation()->set_output(method.task().fit().output());
      }
      if (!method.has_superpixels()) continue;
      v1::Payload cut;
      *cut.mutable_superpixels() = method.superpixels();
      // Equal cuts are told by their task.
      *result.mutable_superpixels() = Inline(Sha256Of(method.superpixels().labels()).bytes(), cut);
    }
  }
  return results;
}

absl::Status WriteFolder(const PhotoAnswer& answer, const ImageSet& image,
                         const std::string& folder) {
  if (folder.empty()) return absl::OkStatus();
  ReportInputs inputs;
  inputs.images = &image;
  inputs.fetch_payload = [](const v1::TaskResult& result) -> absl::StatusOr<v1::Payload> {
    v1::Payload payload;
    if (payload.ParseFromString(result.payload())) return payload;
    return absl::DataLossError("a payload does not parse");
  };
  return MakeExplanations(ResultsOf(answer, image.manifest()), inputs, folder, false).status();
}

// "0.412; of 30 validation images 99 in 100 lie within 0.5".
std::string DistanceText(const v1::Familiarity& familiarity) {
  std::string text = absl::StrFormat("%.3f", familiarity.distance());
  if (familiarity.has_threshold()) {
    absl::StrAppendFormat(&text, "; of %d validation images 99 in 100 lie within %.3f",
                          familiarity.validation_images(), familiarity.threshold());
  }
  return text;
}

absl::StatusOr<std::string> ReadPhoto(const std::string& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    return absl::NotFoundError(absl::StrCat("no picture ", path));
  }
  if (fs::file_size(path, error) > kMostFile) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", fs::file_size(path, error) >> 20,
                                                   " MiB; at most ", kMostFile >> 20,
                                                   " are taken"));
  }
  return ReadFile(path);
}

absl::Status CheckFolder(const std::string& folder) {
  if (folder.empty()) return absl::OkStatus();
  if (fs::exists(folder)) {
    return absl::AlreadyExistsError(
        absl::StrCat(folder, " is there already (--out): name a new folder, or remove it"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddUpdate(v1::ExplainUpdate update, PhotoAnswer& answer) {
  switch (update.kind_case()) {
    case v1::ExplainUpdate::kStart:
      answer.start = std::move(*update.mutable_start());
      break;
    case v1::ExplainUpdate::kPrediction:
      answer.prediction = update.prediction();
      answer.has_prediction = true;
      break;
    case v1::ExplainUpdate::kConfidence:
      answer.confidence = std::move(*update.mutable_confidence());
      answer.has_confidence = true;
      break;
    case v1::ExplainUpdate::kMethod:
      answer.methods.push_back(std::move(*update.mutable_method()));
      break;
    case v1::ExplainUpdate::KIND_NOT_SET:  // Progress alone.
      break;
  }
}

std::string TextOf(const PhotoAnswer& answer, const v1::ImageSetManifest& manifest,
                   const std::string& photo) {
  const v1::ExplainConfidence& confidence = answer.confidence;
  const std::string predicted = NameOf(manifest, answer.prediction.predicted());
  std::string text = absl::StrCat(photo, ", by study ", answer.start.study(), ": ");
  if (!answer.has_confidence) {
    absl::StrAppend(&text, answer.has_prediction ? predicted : "no prediction came", "\n");
    if (answer.has_prediction) {
      absl::StrAppend(&text,
                      "  whether it is like the training images was not found out, so no "
                      "confidence is given\n");
    }
  } else if (confidence.unlike()) {
    absl::StrAppend(&text, "unlike the training images\n  distance      ",
                    DistanceText(confidence.familiarity()),
                    "\n  so no confidence is given; the model would call it ", predicted,
                    ", as it would call anything\n");
  } else {
    absl::StrAppend(&text, predicted, "\n");
    for (int c = confidence.probabilities_size(); c-- > 0;) {
      absl::StrAppendFormat(&text, "  %-13s %.1f %%\n", NameOf(manifest, static_cast<uint32_t>(c)),
                            100 * confidence.probabilities(c));
    }
    if (confidence.has_temperature()) {
      absl::StrAppendFormat(
          &text,
          "  calibrated on the study's validation images (temperature %.3g); called "
          "%s from an uncalibrated %.3g on\n",
          confidence.temperature(),
          NameOf(manifest, static_cast<uint32_t>(manifest.classes_size() - 1)),
          confidence.threshold());
    }
    // Without a threshold the distance alone says nothing; a note says why there is none.
    if (confidence.familiarity().has_threshold()) {
      absl::StrAppendFormat(&text, "  distance      %.3f, as training images are (within %.3f)\n",
                            confidence.familiarity().distance(),
                            confidence.familiarity().threshold());
    }
  }
  if (confidence.has_familiarity()) {
    absl::StrAppend(&text, "  nearest training images:\n");
    for (const v1::NearImage& near : confidence.familiarity().nearest()) {
      const v1::ImageEntry* entry = EntryOf(manifest, near.image());
      absl::StrAppendFormat(&text, "    %.3f  %s%s\n", near.distance(),
                            entry == nullptr ? absl::StrCat("image ", near.image()) : entry->name(),
                            entry == nullptr || manifest.unlabelled()
                                ? ""
                                : absl::StrCat(" (", NameOf(manifest, entry->label()), ")"));
    }
  }
  for (const v1::ExplainMethod& method : answer.methods) {
    absl::StrAppendFormat(&text, "  %-13s ", KeyOf(answer, method));
    if (method.payload().has_fit()) {
      const v1::Attribution& fit = method.payload().fit();
      absl::StrAppendFormat(&text, "%d superpixels, %d masked images, f(x) = %.4g", fit.count(),
                            fit.evaluations(), fit.full());
      if (fit.r_squared() != 0) absl::StrAppendFormat(&text, ", R2 %.3f", fit.r_squared());
    } else {
      std::vector<std::string> layers;
      for (const v1::LayerMaps& maps : method.payload().activations().layers()) {
        layers.push_back(maps.layer());
      }
      absl::StrAppend(&text, "layers ", absl::StrJoin(layers, ", "));
    }
    absl::StrAppend(&text, "\n");
  }
  for (const std::string& note : answer.start.notes())
    absl::StrAppend(&text, "  note: ", note, "\n");
  if (answer.partial) absl::StrAppend(&text, "  note: ", kPartialNote, "\n");
  return absl::StrCat(text, kResearchNote, "\n");
}

Json JsonOf(const PhotoAnswer& answer, const v1::ImageSetManifest& manifest,
            const std::string& photo) {
  const v1::ExplainConfidence& confidence = answer.confidence;
  Json json;
  json["image"] = photo;
  json["study"] = answer.start.study();
  json["note"] = kResearchNote;
  json["notes"] =
      std::vector<std::string>(answer.start.notes().begin(), answer.start.notes().end());
  json["partial"] = answer.partial;
  json["predicted"] =
      answer.has_prediction ? Json(NameOf(manifest, answer.prediction.predicted())) : Json(nullptr);
  // Of a distance that there is nothing to compare with nobody knows.
  const bool judged = confidence.has_familiarity() &&
                      (confidence.unlike() || confidence.familiarity().has_threshold());
  json["unlike_training_images"] = judged ? Json(confidence.unlike()) : Json(nullptr);
  json["probabilities"] = nullptr;
  for (int c = 0; c < confidence.probabilities_size(); ++c) {
    json["probabilities"][NameOf(manifest, static_cast<uint32_t>(c))] = confidence.probabilities(c);
  }
  json["temperature"] =
      confidence.has_temperature() ? Json(confidence.temperature()) : Json(nullptr);
  json["threshold"] = confidence.has_threshold() ? Json(confidence.threshold()) : Json(nullptr);
  json["familiarity"] = nullptr;
  if (confidence.has_familiarity()) {
    Json& familiarity = json["familiarity"];
    familiarity["distance"] = confidence.familiarity().distance();
    familiarity["threshold"] = confidence.familiarity().has_threshold()
                                   ? Json(confidence.familiarity().threshold())
                                   : Json(nullptr);
    familiarity["validation_images"] = confidence.familiarity().validation_images();
    familiarity["nearest"] = Json::array();
    for (const v1::NearImage& near : confidence.familiarity().nearest()) {
      const v1::ImageEntry* entry = EntryOf(manifest, near.image());
      Json one;
      one["image"] = entry == nullptr ? "" : entry->name();
      one["label"] = entry == nullptr || manifest.unlabelled()
                         ? Json(nullptr)
                         : Json(NameOf(manifest, entry->label()));
      one["distance"] = near.distance();
      familiarity["nearest"].push_back(std::move(one));
    }
  }
  json["methods"] = Json::array();
  for (const v1::ExplainMethod& method : answer.methods) {
    Json one;
    one["name"] = KeyOf(answer, method);
    // As `dermis results -o json` has them.
    one["method"] = MessageJson(method.method());
    one["result"] = PayloadJson(method.payload());
    json["methods"].push_back(std::move(one));
  }
  return json;
}

absl::StatusOr<PhotoAnswer> ExplainPhoto(const PhotoOptions& options) {
  RETURN_IF_ERROR(CheckFolder(options.folder));
  ASSIGN_OR_RETURN(const std::string file, ReadPhoto(options.photo));
  ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options.cluster));
  ASSIGN_OR_RETURN(const auto channel, ConnectToCluster(options.cluster));
  const auto questions = v1::Questions::NewStub(channel);
  CatchInterrupts();
  // What the image has to be like: the study's images say.
  v1::ExplainRequest request;
  request.set_study(options.study);
  PhotoAnswer answer;
  RETURN_IF_ERROR(Ask(*questions, request, [&](v1::ExplainUpdate update) {
    if (update.has_start()) answer.start = std::move(*update.mutable_start());
  }));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageSet> images,
                   client->OpenImages(answer.start.image_set()));
  const v1::ImageSetManifest& manifest = images->manifest();
  absl::StatusOr<std::string> pixels = DecodeImage(file, manifest.height());
  if (!pixels.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.photo, " is no picture that can be taken: ", pixels.status().message()));
  }
  request.set_pixels(*pixels);
  const bool live = options.format == "text" && IsTerminal(stderr);
  const absl::Status end = Ask(*questions, request, [&](v1::ExplainUpdate update) {
    if (live) std::fprintf(stderr, "\r%u of %u tasks ", update.tasks_done(), update.tasks_total());
    AddUpdate(std::move(update), answer);
  });
  if (live) std::fprintf(stderr, "\r\033[K");
  answer.partial = !end.ok();
  // An interrupted one is not wanted; of one that failed there may be a part.
  if (answer.partial && (absl::IsCancelled(end) || !answer.has_prediction)) return end;
  const std::string name = fs::path(options.photo).filename().string();
  const OneImage image(manifest, name, *std::move(pixels));
  const absl::Status written = WriteFolder(answer, image, options.folder);
  if (options.format == "json") {
    PrintJson(JsonOf(answer, manifest, name));
  } else {
    std::fputs(TextOf(answer, manifest, name).c_str(), stdout);
    if (written.ok() && !options.folder.empty()) {
      std::printf("overlays in %s/overlays\n", options.folder.c_str());
    }
  }
  RETURN_IF_ERROR(end);
  RETURN_IF_ERROR(written);
  return answer;
}

}  // namespace dermis
