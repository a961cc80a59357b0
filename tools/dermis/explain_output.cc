#include "tools/dermis/explain_output.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "common/estimators.h"
#include "common/metrics.h"
#include "common/safetensors.h"
#include "common/status_macros.h"
#include "tools/ingest/csv.h"
#include "tools/report/looking_inside.h"
#include "tools/report/overlay.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

absl::Status WriteFile(const fs::path& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (out) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path.string(), " cannot be written: is there space?"));
}

// Tensors of one file, and the bytes that they look at.
class TensorFile {
 public:
  template <typename Value>
  void Add(const std::string& name, const char* dtype, std::vector<int64_t> shape,
           const Value* values, size_t count) {
    bytes_.emplace_back(reinterpret_cast<const char*>(values), count * sizeof(Value));
    tensors_[name] = {dtype, std::move(shape), bytes_.back()};
  }
  std::string Serialise(const std::map<std::string, std::string>& metadata) const {
    return SerializeSafetensors(tensors_, metadata);
  }

 private:
  std::deque<std::string> bytes_;  // They stay where they are.
  std::map<std::string, TensorView> tensors_;
};

constexpr char kNetwork[] = "network";
constexpr char kMarginSuffix[] = ".margin";

class Writer {
 public:
  Writer(const v1::StudyResults& results, const ReportInputs& inputs, const fs::path& folder)
      : results_(results),
        inputs_(inputs),
        manifest_(inputs.images->manifest()),
        folder_(folder),
        keys_(MethodKeys(results.spec().explanation())) {
    for (int i = 0; i < results.test_images_size(); ++i) row_of_[results.test_images(i)] = i;
  }

  absl::Status Write() {
    csv_ = "image,method,superpixel,pixels,value,standard_error,model\r\n";
    std::error_code error;
    fs::create_directory(folder_ / "overlays", error);
    for (const v1::ExplainedImage& image : results_.explained()) RETURN_IF_ERROR(AddImage(image));
    RETURN_IF_ERROR(WriteFile(folder_ / "attributions.csv", csv_));
    const std::string& positive = manifest_.classes(manifest_.classes_size() - 1);
    metadata_.insert({{"format", "dermis attributions"},
                      {"version", "1"},
                      {"class", positive},
                      {"output", OutputName(results_.spec().explanation().output())}});
    return WriteFile(folder_ / "attributions.safetensors", tensors_.Serialise(metadata_));
  }
  uint32_t overlays() const { return overlays_; }

 private:
  // A method's results of a model have the method's name in the table, and a key in names of files
  // and tensors.
  struct Names {
    std::string method, model, key;
  };

  static std::string OutputName(v1::OutputKind output) {
    switch (output) {
      case v1::OUTPUT_KIND_LOGIT:
        return "logit";
      case v1::OUTPUT_KIND_PROBABILITY:
        return "probability";
      default:
        return "margin";
    }
  }

  absl::Status AddImage(const v1::ExplainedImage& image) {
    const v1::ImageEntry& entry = manifest_.images(static_cast<int>(image.image()));
    ASSIGN_OR_RETURN(const std::string_view pixels, inputs_.images->Pixels(image.image()));
    const Raster picture{static_cast<int>(manifest_.width()), static_cast<int>(manifest_.height()),
                         3, std::vector<uint8_t>(pixels.begin(), pixels.end())};
    std::vector<std::string> cuts;
    for (int m = 0; m < image.results_size(); ++m) {
      const v1::MethodResult& method = image.results(m);
      const std::string name = absl::StrCat(entry.name(), "/", keys_[m]);
      if (method.result().task().empty()) {
        return absl::FailedPreconditionError(absl::StrCat(name, " has no result"));
      }
      ASSIGN_OR_RETURN(const v1::Payload payload, inputs_.fetch_payload(method.result()));
      if (payload.has_fit()) {
        ASSIGN_OR_RETURN(const v1::Payload cut, inputs_.fetch_payload(method.superpixels()));
        AddCut(entry.name(), keys_[m], method.superpixels().task(), cut.superpixels(), cuts);
        RETURN_IF_ERROR(AddAttribution(entry.name(), {keys_[m], kNetwork, keys_[m]}, picture,
                                       results_.spec().explanation().output(), payload.fit(),
                                       cut.superpixels()));
        RETURN_IF_ERROR(AddMargin(entry.name(), {keys_[m], kNetwork, keys_[m]}, picture, method,
                                  cut.superpixels(), cuts));
      } else if (payload.has_gradient()) {
        RETURN_IF_ERROR(AddPixels(entry.name(), keys_[m], picture, payload.gradient()));
      } else if (payload.has_activations()) {
        RETURN_IF_ERROR(AddMaps(image.image(), entry.name(), m, picture, payload.activations()));
      }
    }
    for (const v1::ExplainedBaseline& baseline : image.baselines()) {
      RETURN_IF_ERROR(AddBaseline(entry.name(), baseline, picture, cuts));
    }
    return absl::OkStatus();
  }

  // All its methods have superpixels.
  absl::Status AddBaseline(const std::string& image, const v1::ExplainedBaseline& baseline,
                           const Raster& picture, std::vector<std::string>& cuts) {
    if (baseline.baseline() >= static_cast<uint32_t>(results_.baselines_size())) {
      return absl::DataLossError(
          absl::StrCat(image, ": explained by a baseline that is not there"));
    }
    const std::string model = ModelKey(results_.baselines(static_cast<int>(baseline.baseline())));
    const auto& methods = results_.spec().explanation().methods();
    int m = 0;
    for (const v1::MethodResult& method : baseline.results()) {
      while (m < methods.size() && !HasMasks(methods[m])) ++m;
      const std::string name = m < methods.size() ? keys_[m++] : "unknown";
      const std::string key = absl::StrCat(model, ".", name);
      if (method.result().task().empty()) {
        return absl::FailedPreconditionError(absl::StrCat(image, "/", key, " has no result"));
      }
      ASSIGN_OR_RETURN(const v1::Payload payload, inputs_.fetch_payload(method.result()));
      ASSIGN_OR_RETURN(const v1::Payload cut, inputs_.fetch_payload(method.superpixels()));
      const v1::OutputKind output = method.task().fit().output();
      metadata_["output of " + model] = OutputName(output);
      AddCut(image, key, method.superpixels().task(), cut.superpixels(), cuts);
      RETURN_IF_ERROR(AddAttribution(image, {name, model, key}, picture, output, payload.fit(),
                                     cut.superpixels()));
      RETURN_IF_ERROR(
          AddMargin(image, {name, model, key}, picture, method, cut.superpixels(), cuts));
    }
    return absl::OkStatus();
  }

  // The margin's fit beside a probability's, if there is one: as a method of its own.
  absl::Status AddMargin(const std::string& image, Names names, const Raster& picture,
                         const v1::MethodResult& method, const v1::SuperpixelOutput& cut,
                         std::vector<std::string>& cuts) {
    if (method.margin().task().empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const v1::Payload payload, inputs_.fetch_payload(method.margin()));
    names.method += kMarginSuffix;
    names.key += kMarginSuffix;
    metadata_["output of " + names.key] = OutputName(v1::OUTPUT_KIND_MARGIN);
    AddCut(image, names.key, method.superpixels().task(), cut, cuts);
    return AddAttribution(image, names, picture, v1::OUTPUT_KIND_MARGIN, payload.fit(), cut);
  }

  // Once for all methods that share it. `cuts`: tasks of the image's cuts, in the order of the
  // methods: the same for all images, so a method's cut has one name.
  void AddCut(const std::string& image, const std::string& method, const std::string& task,
              const v1::SuperpixelOutput& cut, std::vector<std::string>& cuts) {
    const auto at = std::find(cuts.begin(), cuts.end(), task);
    const size_t number = static_cast<size_t>(at - cuts.begin()) + 1;
    const std::string name = number == 1 ? "superpixels" : absl::StrCat("superpixels-", number);
    metadata_["superpixels of " + method] = name;
    if (at != cuts.end()) return;
    cuts.push_back(task);
    tensors_.Add(absl::StrCat(image, "/", name), "U16", {cut.height(), cut.width()},
                 cut.labels().data(), cut.labels().size());
  }

  // The labels of the picture's pixels: superpixels may be of the image as the model sees it.
  static std::vector<int> LabelsOn(const Raster& picture, const v1::SuperpixelOutput& cut,
                                   const std::vector<int>& labels) {
    std::vector<int> shown;
    shown.reserve(static_cast<size_t>(picture.width) * picture.height);
    for (int y = 0; y < picture.height; ++y) {
      const size_t row = size_t{cut.height()} * y / picture.height * cut.width();
      for (int x = 0; x < picture.width; ++x) {
        shown.push_back(labels[row + size_t{cut.width()} * x / picture.width]);
      }
    }
    return shown;
  }

  absl::Status AddAttribution(const std::string& image, const Names& names, const Raster& picture,
                              v1::OutputKind output, const v1::Attribution& fit,
                              const v1::SuperpixelOutput& cut) {
    const std::vector<int> labels = LabelsOf(cut.labels());
    const auto values =
        absl::MakeConstSpan(fit.values().data(), static_cast<size_t>(fit.values_size()));
    if (labels.empty() || labels.size() != size_t{cut.height()} * cut.width() ||
        cut.count() != values.size()) {
      return absl::DataLossError(
          absl::StrCat(image, "/", names.key, ": attribution and superpixels differ in size"));
    }
    std::vector<uint64_t> pixels(values.size());
    for (const int label : labels) ++pixels[label];
    const bool errors = fit.standard_errors_size() == fit.values_size();
    for (size_t k = 0; k < values.size(); ++k) {
      absl::StrAppendFormat(&csv_, "%s,%s,%d,%d,%.17g,", CsvField(image), names.method, k,
                            pixels[k], values[k]);
      if (errors) absl::StrAppendFormat(&csv_, "%.17g", fit.standard_errors(static_cast<int>(k)));
      absl::StrAppend(&csv_, ",", names.model, "\r\n");
    }
    const std::string at = absl::StrCat(image, "/", names.key);
    const auto count = static_cast<int64_t>(values.size());
    tensors_.Add(at + "/values", "F64", {count}, values.data(), values.size());
    if (errors) {
      tensors_.Add(at + "/standard_errors", "F64", {count}, fit.standard_errors().data(),
                   values.size());
    }
    const std::string& positive = manifest_.classes(manifest_.classes_size() - 1);
    OverlayText text;
    text.title = absl::StrCat(names.key, ": red for ", positive, ", blue against it");
    text.numbers = absl::StrFormat("%s f(x) = %.4g", OutputName(output), fit.full());
    if (fit.r_squared() != 0) absl::StrAppendFormat(&text.numbers, ", R2 %.3f", fit.r_squared());
    if (fit.hidden() != 0)
      absl::StrAppendFormat(&text.numbers, ", f(all hidden) = %.4g", fit.hidden());
    return Draw(absl::StrCat(image, ".", names.key),
                SuperpixelOverlayPng(picture, values, LabelsOn(picture, cut, labels), text));
  }

  absl::Status AddPixels(const std::string& image, const std::string& method, const Raster& picture,
                         const v1::PixelAttribution& pixels) {
    const size_t cells = size_t{pixels.height()} * pixels.width(), channels = pixels.channels();
    if (cells == 0 || channels == 0 ||
        static_cast<size_t>(pixels.values_size()) != cells * channels) {
      return absl::DataLossError(absl::StrCat(image, "/", method, ": its pixels differ in number"));
    }
    tensors_.Add(absl::StrCat(image, "/", method), "F32",
                 {pixels.height(), pixels.width(), pixels.channels()}, pixels.values().data(),
                 cells * channels);
    if (static_cast<size_t>(pixels.standard_errors_size()) == cells) {
      tensors_.Add(absl::StrCat(image, "/", method, "/standard_errors"), "F32",
                   {pixels.height(), pixels.width()}, pixels.standard_errors().data(), cells);
    }
    std::vector<double> sums(cells);
    for (size_t i = 0; i < cells * channels; ++i)
      sums[i / channels] += pixels.values(static_cast<int>(i));
    OverlayText text;
    text.title = absl::StrCat(method, ": red for ", manifest_.classes(manifest_.classes_size() - 1),
                              ", blue against it");
    text.numbers = absl::StrFormat(
        "%s f(x) = %.4g", OutputName(results_.spec().explanation().output()), pixels.full());
    if (pixels.has_reference())
      absl::StrAppendFormat(&text.numbers, ", reference %.4g", pixels.reference());
    return Draw(absl::StrCat(image, ".", method),
                GridOverlayPng(picture, sums, static_cast<int>(pixels.width()),
                               static_cast<int>(pixels.height()), text));
  }

  absl::Status AddMaps(uint32_t index, const std::string& image, int m, const Raster& picture,
                       const v1::ActivationOutput& maps) {
    const v1::MethodSpec& method = results_.spec().explanation().methods(m);
    // A map towards the class that is predicted: of two, the other's is that of -f. A logit has no
    // other side.
    const int classes = manifest_.classes_size();
    int predicted = classes - 1;
    if (const auto row = row_of_.find(index); row != row_of_.end()) {
      const std::vector<double> p = Softmax(
          {results_.test_logits().data() + row->second * classes, static_cast<size_t>(classes)});
      predicted = static_cast<int>(std::max_element(p.begin(), p.end()) - p.begin());
    }
    const bool logit = results_.spec().explanation().output() == v1::OUTPUT_KIND_LOGIT;
    const double sign = logit || predicted == classes - 1 ? 1 : -1;
    for (const v1::LayerMaps& layer : maps.layers()) {
      const std::string key = absl::StrCat(image, ".", keys_[m], ".", layer.layer());
      const int width = static_cast<int>(layer.width()), height = static_cast<int>(layer.height());
      if (method.has_activation_maps()) {
        const Raster tiles =
            Tiles(layer.activations(), static_cast<int>(layer.channels()), width, height);
        RETURN_IF_ERROR(Draw(key, PngBytes(tiles)));
        continue;
      }
      const Cam cam = CamOf(layer, sign);
      const absl::Span<const float> map = cam.values;
      if (map.size() != static_cast<size_t>(width) * height) {
        return absl::DataLossError(absl::StrCat(key, ": the map differs in size"));
      }
      tensors_.Add(absl::StrCat(image, "/", keys_[m], "/", layer.layer()), "F32", {height, width},
                   map.data(), map.size());
      OverlayText text;
      text.title = absl::StrCat(keys_[m], " of ", layer.layer(), ": evidence for ",
                                sign > 0 ? manifest_.classes(classes - 1) : manifest_.classes(0));
      text.numbers = absl::StrCat("grid of ", width, " x ", height);
      RETURN_IF_ERROR(Draw(key, MapOverlayPng(picture, map, width, height, cam.sign, text)));
    }
    return absl::OkStatus();
  }

  absl::Status Draw(const std::string& key, const std::string& png) {
    if (png.empty())
      return absl::InternalError(absl::StrCat("the overlay ", key, " cannot be made"));
    std::string name = absl::StrReplaceAll(key, {{"/", "_"}});
    while (!names_.insert(name).second)
      name += "_";  // Two images that differ in '/' and '_' alone.
    ++overlays_;
    return WriteFile(folder_ / "overlays" / (name + ".png"), png);
  }

  const v1::StudyResults& results_;
  const ReportInputs& inputs_;
  const v1::ImageSetManifest& manifest_;
  const fs::path folder_;
  const std::vector<std::string> keys_;
  std::map<uint32_t, int> row_of_;
  std::string csv_;
  TensorFile tensors_;
  std::map<std::string, std::string> metadata_;
  std::set<std::string> names_;
  uint32_t overlays_ = 0;
};

}  // namespace

std::vector<std::string> MethodKeys(const v1::ExplanationSpec& spec) {
  std::vector<std::string> keys;
  std::map<std::string, int> seen;
  for (const v1::MethodSpec& method : spec.methods()) {
    const auto* field = v1::MethodSpec::descriptor()->FindFieldByNumber(method.kind_case());
    const std::string name = field == nullptr ? "unknown" : field->name();
    const int n = ++seen[name];
    keys.push_back(n == 1 ? name : absl::StrCat(name, "-", n));
  }
  return keys;
}

std::string ModelKey(const v1::BaselineResult& baseline) {
  return absl::StrCat(absl::StrReplaceAll(baseline.name(), {{" ", "-"}}), "-", baseline.size());
}

absl::StatusOr<uint32_t> WriteExplanations(const v1::StudyResults& results,
                                           const ReportInputs& inputs, const std::string& folder,
                                           bool report) {
  Writer writer(results, inputs, folder);
  RETURN_IF_ERROR(writer.Write());
  if (!report) return writer.overlays();
  RETURN_IF_ERROR(WriteReport(results, inputs, absl::StrCat(folder, "/report.html")));
  RETURN_IF_ERROR(
      WriteScoresCsv(results, inputs.images->manifest(), absl::StrCat(folder, "/scores.csv")));
  return writer.overlays();
}

absl::StatusOr<uint32_t> MakeExplanations(const v1::StudyResults& results,
                                          const ReportInputs& inputs, const std::string& folder,
                                          bool report) {
  const std::string part = folder + ".part";
  std::error_code error;
  std::filesystem::remove_all(part, error);
  if (!error) std::filesystem::create_directory(part, error);
  if (error) return absl::UnavailableError(absl::StrCat(part, ": ", error.message()));
  absl::StatusOr<uint32_t> overlays = WriteExplanations(results, inputs, part, report);
  if (overlays.ok()) std::filesystem::rename(part, folder, error);
  if (error) overlays = absl::UnavailableError(absl::StrCat(folder, ": ", error.message()));
  std::error_code ignored;
  if (!overlays.ok()) std::filesystem::remove_all(part, ignored);
  return overlays;
}

}  // namespace dermis
