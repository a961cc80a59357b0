#include "tools/report/embeddings.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/split.h"
#include "common/status_macros.h"
#include "tools/report/plot.h"
#include "tools/report/scatter.h"

namespace dermis {
namespace {

// All embeddings of one source.
struct Source {
  v1::PcaTask task;
  std::optional<v1::PcaOutput> pca;
  std::vector<std::pair<v1::TsneTask, v1::TsneOutput>> tsne;
  std::optional<v1::SeparationOutput> separation;
  bool complete = true;
};

const v1::PcaTask& PcaOf(const v1::TaskSpec& task) {
  return task.has_pca() ? task.pca() : task.has_tsne() ? task.tsne().pca() : task.separation().pca();
}

absl::StatusOr<std::vector<Source>> SourcesOf(const v1::StudyResults& results,
                                              const ReportInputs& inputs) {
  std::vector<Source> sources;
  for (const v1::SummaryResult& result : results.embeddings()) {
    const v1::PcaTask& task = PcaOf(result.task());
    auto source = std::find_if(sources.begin(), sources.end(), [&](const Source& other) {
      return other.task.has_model() == task.has_model();
    });
    if (source == sources.end()) {
      sources.emplace_back().task = task;
      source = sources.end() - 1;
    }
    if (result.result().task().empty()) {
      source->complete = false;
      continue;
    }
    ASSIGN_OR_RETURN(v1::Payload payload, inputs.fetch_payload(result.result()));
    if (payload.has_pca()) source->pca = std::move(*payload.mutable_pca());
    if (payload.has_tsne()) {
      source->tsne.emplace_back(result.task().tsne(), std::move(*payload.mutable_tsne()));
    }
    if (payload.has_separation()) source->separation = std::move(*payload.mutable_separation());
  }
  // Pixels first: they are where the network begins.
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    return !a.task.has_model() && b.task.has_model();
  });
  return sources;
}

std::string SpaceName(const std::string& space, bool features) {
  const std::string raw = features ? "features" : "pixels";
  if (space == "raw") return raw;
  if (space == "pca") return "principal components";
  return space == "tsne of raw" ? "t-SNE of " + raw : "t-SNE of components";
}

std::string SeparationTable(const v1::SeparationOutput& output, const Source& source) {
  const bool features = source.task.has_model();
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th>space</th><th>area under ROC</th><th>95 %</th>"
      "<th>balanced accuracy</th></tr></thead><tbody>";
  for (const v1::Separation& space : output.spaces()) {
    absl::StrAppendFormat(&html,
                          "<tr><th scope=\"row\">%s</th><td>%.3f</td><td>%.3f – %.3f</td><td>%.3f</td></tr>",
                          SpaceName(space.space(), features), space.area(), space.low(), space.high(),
                          space.accuracy());
  }
  const uint32_t images = output.spaces().empty() ? 0 : output.spaces(0).images();
  return absl::StrCat(
      html, "</tbody></table></div><p class=\"note\">How far the classes lie apart, by one classifier for all spaces: the share of the positive "
      "class among an image’s nearest neighbours, those of its own lesion left out. ",
      features ? "Scored are the test images against their neighbours in the training split, which is what the network learned from: "
               : "Scored is each image against all others: ",
      images, " images. Intervals by bootstrap over lesions.</p>");
}

std::string AssociationTable(const v1::SeparationOutput& output) {
  std::vector<std::string> properties;
  for (const v1::Association& one : output.associations()) {
    if (std::find(properties.begin(), properties.end(), one.property()) == properties.end()) {
      properties.push_back(one.property());
    }
  }
  if (properties.empty()) return "";
  std::string html = "<div class=\"scroll\"><table><thead><tr><th>component</th>";
  for (const std::string& property : properties) absl::StrAppend(&html, "<th>", Escape(property), "</th>");
  html += "</tr></thead><tbody>";
  for (uint32_t component = 1;; ++component) {
    std::string row;
    bool any = false;
    for (const std::string& property : properties) {
      const v1::Association* found = nullptr;
      for (const v1::Association& one : output.associations()) {
        if (one.component() == component && one.property() == property) found = &one;
      }
      if (found == nullptr) {
        row += "<td class=\"none\">–</td>";
        continue;
      }
      any = true;
      const bool clear = found->low() > 0 || found->high() < 0;
      absl::StrAppendFormat(&row, "<td>%s%+.2f%s <small>%+.2f – %+.2f</small></td>", clear ? "<b>" : "",
                            found->correlation(), clear ? "</b>" : "", found->low(), found->high());
    }
    if (!any) break;
    absl::StrAppend(&html, "<tr><th scope=\"row\">PC", component, "</th>", row, "</tr>");
  }
  return html +
         "</tbody></table></div><p class=\"note\">Spearman’s correlation of each component with the lesion’s share of the image "
         "(images with a mask) and the image’s mean colour (CIELAB: lightness, green to red, blue to yellow), with 95 % "
         "intervals by lesion; bold where 0 lies outside. Signs of components are arbitrary.</p>";
}

class Section {
 public:
  Section(const v1::StudyResults& results, const v1::ImageSetManifest& manifest) : manifest_(manifest) {
    const auto split = MakeSplit(manifest, results.spec().images().split(), results.spec().seed());
    parts_.assign(static_cast<size_t>(manifest.images_size()), 0);
    if (!split.ok()) return;
    for (const uint32_t image : split->validation) parts_[image] = 1;
    for (const uint32_t image : split->test) parts_[image] = 2;
  }

  const std::vector<uint32_t>& images() const { return images_; }
  std::vector<uint8_t> PartsOfImages() const {
    std::vector<uint8_t> parts;
    for (const uint32_t image : images_) parts.push_back(parts_[image]);
    return parts;
  }

  // None without principal components: they say which images there are.
  std::vector<EmbeddingPlot> Plots(const Source& source) {
    std::vector<EmbeddingPlot> plots;
    if (!source.pca) return plots;
    const bool features = source.task.has_model();
    images_.assign(source.pca->images().begin(), source.pca->images().end());
    std::vector<float> first_two;
    const int k = static_cast<int>(source.pca->components());
    for (int i = 0; i < source.pca->images_size(); ++i) {
      first_two.push_back(source.pca->scores(i * k));
      first_two.push_back(k > 1 ? source.pca->scores(i * k + 1) : 0);
    }
    const auto axis = [&](int c) {
      return c < k ? absl::StrFormat("PC%d, %.0f %% of the variance", c + 1, 100 * source.pca->variance(c))
                   : std::string();
    };
    plots.push_back(One(EmbeddingKind::kPca, "Principal components", axis(0), axis(1), std::move(first_two), features));
    for (const auto& [task, output] : source.tsne) {
      const bool of_pca = task.input() == v1::TSNE_INPUT_PCA;
      plots.push_back(One(of_pca ? EmbeddingKind::kTsneOfPca : EmbeddingKind::kTsneOfRaw,
                          absl::StrFormat("t-SNE of %s, perplexity %g",
                                          of_pca ? absl::StrCat(k, " components") : std::string(features ? "features" : "pixels"),
                                          task.perplexity()),
                          "", "", {output.points().begin(), output.points().end()}, features));
    }
    return plots;
  }

  std::string Render(const Source& source) {
    const bool features = source.task.has_model();
    std::string html = absl::StrCat(
        "<h3>", features ? "What the network makes of the images" : "The images’ pixels", "</h3><p class=\"note\">",
        features ? "The network’s features, before its last layer. It was fitted to the training images, so only the test images, drawn "
                   "in full, say how far it separates the classes."
                 : absl::StrCat("At ", source.task.images().size(), " × ", source.task.images().size(),
                                " pixels; nobody has told these pictures what the classes are."),
        "</p>");
    if (!source.pca) return html + "<p class=\"missing\">Not computed yet.</p>";
    html += "<div class=\"trio\">";
    for (const EmbeddingPlot& plot : Plots(source)) html += RenderScatter(plot.scatter);
    html += "</div>";
    if (source.separation) {
      absl::StrAppend(&html, SeparationTable(*source.separation, source),
                      AssociationTable(*source.separation));
    }
    if (!source.complete) html += "<p class=\"missing\">Some of it is not computed yet.</p>";
    return html;
  }

 private:
  EmbeddingPlot One(EmbeddingKind kind, const std::string& title, const std::string& x, const std::string& y,
                    std::vector<float> points, bool features) const {
    EmbeddingPlot plot{kind, features, {}, images_, PartsOfImages()};
    Scatter& scatter = plot.scatter;
    scatter.title = title;
    scatter.x_label = x;
    scatter.y_label = y;
    scatter.points = std::move(points);
    const int classes = manifest_.classes_size();
    scatter.negative_name = classes == 2 ? manifest_.classes(0) : "others";
    scatter.positive_name = classes > 0 ? manifest_.classes(classes - 1) : "";
    for (const uint32_t image : images_) {
      scatter.positive.push_back(
          static_cast<int>(manifest_.images(static_cast<int>(image)).label()) + 1 == classes);
      if (features) scatter.marked.push_back(parts_[image] == 2);
    }
    return plot;
  }

  const v1::ImageSetManifest& manifest_;
  std::vector<uint8_t> parts_;     // By index.
  std::vector<uint32_t> images_;   // That are embedded.
};

}  // namespace

absl::StatusOr<std::vector<EmbeddingPlot>> EmbeddingPlots(const v1::StudyResults& results,
                                                          const ReportInputs& inputs) {
  std::vector<EmbeddingPlot> plots;
  if (!results.spec().has_embeddings()) return plots;
  ASSIGN_OR_RETURN(const std::vector<Source> sources, SourcesOf(results, inputs));
  Section section(results, inputs.images->manifest());
  for (const Source& source : sources) {
    for (EmbeddingPlot& plot : section.Plots(source)) plots.push_back(std::move(plot));
  }
  return plots;
}

absl::StatusOr<std::string> RenderEmbeddings(const v1::StudyResults& results,
                                             const ReportInputs& inputs) {
  if (!results.spec().has_embeddings()) return std::string();
  ASSIGN_OR_RETURN(const std::vector<Source> sources, SourcesOf(results, inputs));
  Section section(results, inputs.images->manifest());
  std::string html;
  for (const Source& source : sources) html += section.Render(source);
  if (section.images().empty()) return "<p class=\"missing\">Not computed yet.</p>";
  ASSIGN_OR_RETURN(
      const std::string images,
      RenderScatterImages(*inputs.images, section.images(), section.PartsOfImages()));
  return absl::StrCat("<p>Each point is an image; with the pointer on it the image is shown.</p>", html, images,
                      "<script>", kScatterScript, "</script>");
}

}  // namespace dermis
