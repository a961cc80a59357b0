#include "tools/report/given.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/metrics.h"
#include "common/model_spec.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

std::string Fact(const std::string& name, const std::string& value, bool code = false) {
  return absl::StrCat("<div><dt>", name, "</dt><dd>", code ? "<code>" : "", Escape(value),
                      code ? "</code>" : "", "</dd></div>");
}

std::string InputText(const v1::ModelInputSpec& input) {
  return absl::StrCat(
      "pixels from 0 to ", input.range(), ", minus (", absl::StrJoin(input.mean(), ", "),
      "), divided by (", absl::StrJoin(input.deviation(), ", "), "), ",
      input.channels() == v1::CHANNEL_ORDER_BGR ? "blue, green, red" : "red, green, blue");
}

}  // namespace

std::string RenderGivenModel(const v1::ModelSpec& model) {
  std::string html = "<p>The model was given; nothing was trained.</p><dl class=\"provenance\">";
  html += Fact("file", model.file());
  html += Fact("digest", model.digest(), true);
  if (IsBlackBox(model)) {
    html += Fact("kind",
                 model.format() == v1::MODEL_FORMAT_ONNX
                     ? "ONNX, run by OpenCV: a black box, of which only the outputs are looked at"
                     : "TorchScript: a black box, of which only the outputs are looked at");
    html += Fact("input", InputText(model.input()));
    html += Fact("outputs", model.outputs() == v1::MODEL_OUTPUTS_PROBABILITIES
                                ? "probabilities; their logarithms stand for logits"
                                : "logits");
    if (model.classes_size() > 0) html += Fact("classes", absl::StrJoin(model.classes(), ", "));
  }
  return html + "</dl>";
}

std::string RenderPredictions(const v1::StudyResults& results,
                              const v1::ImageSetManifest& manifest) {
  const int classes = manifest.classes_size();
  std::vector<int> predicted(static_cast<size_t>(classes));
  for (int i = 0; i < results.test_images_size(); ++i) {
    const std::vector<double> p =
        Softmax({results.test_logits().data() + i * classes, static_cast<size_t>(classes)});
    ++predicted[static_cast<size_t>(p.rend() - std::max_element(p.rbegin(), p.rend())) - 1];
  }
  std::string html =
      "<p>The images have no labels, so nothing is said about how right the model is.</p><div "
      "class=\"scroll\">"
      "<table><thead><tr><th>predicted</th><th>images</th></tr></thead><tbody>";
  for (int c = 0; c < classes; ++c) {
    if (predicted[c] == 0 && classes > 2) continue;
    absl::StrAppend(&html, "<tr><th scope=\"row\">", Escape(manifest.classes(c)), "</th><td>",
                    predicted[c], "</td></tr>");
  }
  return html + "</tbody></table></div>";
}

}  // namespace dermis
