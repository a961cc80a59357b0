#include "tools/report/figures.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "tools/ingest/csv.h"
#include "tools/report/abcd.h"
#include "tools/report/architecture.h"
#include "tools/report/baselines.h"
#include "tools/report/curves.h"
#include "tools/report/embeddings.h"
#include "tools/report/flow.h"
#include "tools/report/judged.h"
#include "tools/report/judgement.h"
#include "tools/report/overlay.h"
#include "tools/report/panel.h"
#include "tools/report/style.h"

namespace dermis {
namespace {

// The page's colours by day. Programs that show an SVG know no variables.
constexpr std::pair<const char*, const char*> kColours[] = {
    {"var(--card)", "#fff"},     {"var(--ink)", "#1f2328"},    {"var(--soft)", "#646a73"},
    {"var(--line)", "#e4e2dc"},  {"var(--accent)", "#0d7a6f"}, {"var(--second)", "#b9722c"},
    {"var(--right)", "#0d7a6f"}, {"var(--wrong)", "#c0392b"}};

constexpr char kIndexMark[] = "<!-- figures of a Dermis study -->";

// Of a file: "Random forest, 32 px" -> "random-forest-32-px".
std::string Key(const std::string& name) {
  std::string key;
  for (const char c : name) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c))) {
      key += absl::ascii_tolower(static_cast<unsigned char>(c));
    } else if (!key.empty() && key.back() != '-') {
      key += '-';
    }
  }
  while (!key.empty() && key.back() == '-') key.pop_back();
  return key.empty() ? "unnamed" : key;
}

// 9 digits: exact for a float. NaN is an empty field.
std::string Field(double value) {
  return std::isfinite(value) ? absl::StrFormat("%.9g", value) : "";
}
std::string Field(const Estimate& e) {
  return absl::StrCat(Field(e.value), ",", Field(e.interval.low), ",", Field(e.interval.high));
}

std::string CurveCsv(const NamedEvaluations& models, const char* header,
                     std::vector<CurvePoint> Evaluation::*curve) {
  std::string csv = header;
  for (const auto& [name, e] : models) {
    for (const CurvePoint& p : e.*curve)
      absl::StrAppend(&csv, CsvField(name), ",", Field(p.x), ",", Field(p.y), "\r\n");
  }
  return csv;
}

std::string ConfusionCsv(const NamedEvaluations& models) {
  std::string csv = "model,true_negative,false_positive,false_negative,true_positive\r\n";
  for (const auto& [name, e] : models) {
    absl::StrAppend(&csv, CsvField(name), ",", e.true_negative, ",", e.false_positive, ",",
                    e.false_negative, ",", e.true_positive, "\r\n");
  }
  return csv;
}

std::string TrainingCsv(const v1::StudyResults& results) {
  std::string csv =
      "epoch,training_loss,validation_loss,training_accuracy,validation_accuracy,learning_rate\r\n";
  for (int i = 0; i < EpochsOf(results); ++i) {
    const v1::EpochMetrics& m = results.training().epochs(i);
    absl::StrAppend(&csv, m.epoch(), ",", Field(m.training_loss()), ",", Field(m.validation_loss()),
                    ",", Field(m.training_accuracy()), ",", Field(m.validation_accuracy()), ",",
                    Field(m.learning_rate()), "\r\n");
  }
  return csv;
}

// With intervals where there are validation images to choose a threshold on.
std::string TableOneCsv(const Judgement& judgement) {
  std::string csv =
      "model,threshold,chosen_on,accuracy,accuracy_low,accuracy_high,precision,precision_low,"
      "precision_high,fpr_of_all,fpr_of_all_low,"
      "fpr_of_all_high,fnr_of_all,fnr_of_all_low,fnr_of_all_high,fpr_of_class,fpr_of_class_low,fpr_"
      "of_class_high,fnr_of_class,"
      "fnr_of_class_low,fnr_of_class_high,recall,recall_low,recall_high,average_precision,average_"
      "precision_low,average_precision_high,"
      "roc_area,roc_area_low,roc_area_high\r\n";
  const auto add = [&](const std::string& name, double threshold, const char* chosen,
                       std::initializer_list<Estimate> values) {
    std::vector<std::string> fields = {CsvField(name),
                                       std::isinf(threshold) ? "inf" : Field(threshold), chosen};
    for (const Estimate& e : values) fields.push_back(Field(e));
    absl::StrAppend(&csv, absl::StrJoin(fields, ","), "\r\n");
  };
  if (judgement.view) {
    for (const EvaluationReport& model : judgement.view->models) {
      for (const TableOneRow* row : {&model.at_half, &model.at_chosen}) {
        add(model.name, row->threshold, row == &model.at_half ? "" : "validation",
            {row->accuracy, row->precision, row->fpr_of_all, row->fnr_of_all, row->fpr_of_class,
             row->fnr_of_class, row->recall, row->average_precision, row->area});
      }
    }
    return csv;
  }
  const Interval none = {std::nan(""), std::nan("")};
  for (const auto& [name, e] : judgement.models) {
    add(name, .5, "",
        {{e.accuracy, none},
         {e.precision, none},
         {e.fpr_of_all, none},
         {e.fnr_of_all, none},
         {e.fpr_of_class, none},
         {e.fnr_of_class, none},
         {e.sensitivity, none},
         {e.average_precision, none},
         {e.roc_area, none}});
  }
  return csv;
}

// What each training of the taken trial comes to on the test images.
std::string SeedCsv(const v1::StudyResults& results, const OverSeeds& seeds) {
  std::string csv = "seed,weights,stop_epoch,accuracy,roc_area\r\n";
  size_t at = 0;
  for (const v1::SeedResult& seed : results.seeds()) {
    if (seed.test_logits().empty() || at == seeds.areas.values.size()) continue;
    absl::StrAppend(&csv, seed.seed(), ",", absl::BytesToHexString(seed.weights()), ",",
                    seed.stop_epoch(), ",", Field(seeds.accuracies.values[at]), ",",
                    Field(seeds.areas.values[at]), "\r\n");
    ++at;
  }
  return csv;
}

std::string CalibrationCsv(const EvaluationReport& model) {
  std::string csv = "temperature,stated_probability,share_positive\r\n";
  for (const auto& [name, c] :
       {std::pair{"before", &model.before}, std::pair{"after", &model.after}}) {
    for (const ReliabilityPoint& p : c->curve)
      absl::StrAppend(&csv, name, ",", Field(p.mean_probability), ",", Field(p.share_positive),
                      "\r\n");
  }
  return csv;
}

std::string DecisionCsv(const EvaluationReport& model) {
  std::string csv = "threshold,net_benefit,net_benefit_of_all\r\n";
  for (const NetBenefit& p : model.decision_curve_after) {
    absl::StrAppend(&csv, Field(p.threshold), ",", Field(p.model), ",", Field(p.treat_all), "\r\n");
  }
  return csv;
}

std::string SubgroupCsv(const EvaluationReport& model) {
  std::string csv =
      "column,value,images,positives,lesions,accuracy,accuracy_low,accuracy_high,sensitivity,"
      "sensitivity_low,sensitivity_high,specificity,"
      "specificity_low,specificity_high,roc_area,roc_area_low,roc_area_high\r\n";
  for (const Subgroup& row : model.subgroups) {
    absl::StrAppend(&csv, CsvField(row.column), ",", CsvField(row.value), ",", row.n, ",",
                    row.positives, ",", row.lesions, ",", Field(row.accuracy.estimate), ",",
                    Field(row.sensitivity.estimate), ",", Field(row.specificity.estimate), ",",
                    Field(row.area.estimate), "\r\n");
  }
  return csv;
}

std::string PointsCsv(const EmbeddingPlot& plot, const v1::ImageSetManifest& manifest) {
  constexpr const char* kParts[] = {"training", "validation", "test"};
  std::string csv = "image,label,part,x,y\r\n";
  for (size_t i = 0; i < plot.images.size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(static_cast<int>(plot.images[i]));
    absl::StrAppend(&csv, CsvField(entry.name()), ",",
                    CsvField(manifest.classes(static_cast<int>(entry.label()))), ",",
                    kParts[plot.parts[i]], ",",
                    Field(static_cast<double>(plot.scatter.points[2 * i])), ",",
                    Field(static_cast<double>(plot.scatter.points[2 * i + 1])), "\r\n");
  }
  return csv;
}

// All pictures of a case beside each other, with what they are.
std::string PanelSvg(const CasePanel& panel) {
  constexpr int kColumns = 4, kSide = 224, kGap = 14, kText = 36;
  std::string pictures;
  int row = 0, column = 0;
  for (const PanelPicture& picture : panel.pictures) {
    const int columns = picture.wide() ? 2 : 1;
    if (column + columns > kColumns) {
      ++row;
      column = 0;
    }
    const int x = column * (kSide + kGap), y = row * (kSide + kText);
    const int width = columns * (kSide + kGap) - kGap;
    column += columns;
    absl::StrAppendFormat(
        &pictures,
        "<image x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" href=\"%s\"/><text x=\"%d\" "
        "y=\"%d\"%s>%s</text>",
        x, y, width, kSide, JpegUri(picture.raster), x, y + kSide + 15,
        picture.caption.size() > 38u * static_cast<size_t>(columns)
            ? absl::StrFormat(" textLength=\"%d\" lengthAdjust=\"spacingAndGlyphs\"", width)
            : "",
        Escape(picture.caption));
  }
  return absl::StrFormat(
      "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">%s</svg>",
      kColumns * (kSide + kGap) - kGap, (row + 1) * (kSide + kText), Escape(panel.title), pictures);
}

class Collection {
 public:
  explicit Collection(const v1::StudyResults& results, const ReportInputs& inputs)
      : results_(results), inputs_(inputs), manifest_(inputs.images->manifest()) {}

  absl::StatusOr<std::vector<FigureFile>> Collect() {
    ASSIGN_OR_RETURN(const Judgement judgement, JudgeStudy(results_, *inputs_.images));
    if (!judgement.models.empty()) Models(judgement.models);
    if (!judgement.models.empty())
      Csv("table1", "Table 1", "Results of all classifiers", TableOneCsv(judgement));
    if (judgement.seeds)
      Csv("seeds", "", "The network over training seeds", SeedCsv(results_, *judgement.seeds));
    Training();
    RETURN_IF_ERROR(Embeddings());
    ASSIGN_OR_RETURN(const std::vector<CasePanel> panels, CasePanels(results_, inputs_));
    for (const CasePanel& panel : panels) Case(panel);
    const Architecture architecture = ArchitectureOf(results_, manifest_.classes_size());
    if (!architecture.rows.empty())
      Csv("table2", "Table 2", "Architecture of the network", ArchitectureCsv(architecture));
    // In the seed's order: by name, which begins with the number; then what it does not have.
    std::stable_sort(files_.begin(), files_.end(), [](const FigureFile& a, const FigureFile& b) {
      return std::pair(!absl::StartsWith(a.name, "fig"), a.name) <
             std::pair(!absl::StartsWith(b.name, "fig"), b.name);
    });
    if (judgement.split)
      Svg("flow", "", "Flow of the images", RenderFlow(results_, manifest_, *judgement.split));
    if (judgement.view) Depth(judgement.view->models[0]);
    ASSIGN_OR_RETURN(const AbcdReport abcd, JudgeAbcd(results_, inputs_));
    Svg("abcd", "",
        "Asymmetry, border, colour and diameter of lesions against the network's margin",
        AbcdSvg(abcd));
    if (!abcd.properties.empty())
      Csv("abcd", "", "Asymmetry, border, colour and diameter against the network's margin",
          AbcdCsv(abcd));
    return std::move(files_);
  }

 private:
  void Add(const std::string& name, const std::string& figure, const std::string& title,
           std::string bytes) {
    files_.push_back({name, figure, title, std::move(bytes)});
  }
  void Svg(const std::string& key, const std::string& figure, const std::string& title,
           const std::string& svg) {
    if (!svg.empty()) Add(key + ".svg", figure, title, StandaloneSvg(svg));
  }
  void Csv(const std::string& key, const std::string& figure, const std::string& title,
           std::string csv) {
    Add(key + ".csv", figure, title, std::move(csv));
  }

  void Models(const NamedEvaluations& models) {
    Svg("fig02-roc", "Figure 2", "ROC curves, area in the legend", RenderPlot(RocPlot(models)));
    Csv("fig02-roc", "Figure 2", "ROC curves",
        CurveCsv(models, "model,false_positive_rate,true_positive_rate\r\n", &Evaluation::roc));
    Svg("fig02-precision-recall", "Figure 2",
        "Precision-recall curves, average precision in the legend",
        RenderPlot(PrecisionRecallPlot(models)));
    Csv("fig02-precision-recall", "Figure 2", "Precision-recall curves",
        CurveCsv(models, "model,recall,precision\r\n", &Evaluation::precision_recall));
    Csv("fig03-fig06-confusion", "Figures 3, 6", "Confusion matrices at a threshold of .5",
        ConfusionCsv(models));
    for (size_t i = 0; i < models.size(); ++i) {
      Svg(absl::StrCat(i == 0 ? "fig06" : "fig03", "-confusion-", Key(models[i].first)),
          i == 0 ? "Figure 6" : "Figure 3", absl::StrCat("Confusion matrix of ", models[i].first),
          RenderConfusion(models[i].first, models[i].second, manifest_));
    }
  }

  void Training() {
    if (results_.spec().has_model() || EpochsOf(results_) == 0) return;
    const bool early = results_.spec().training().has_early_stopping();
    const std::string key = early ? "fig05" : "fig04", figure = early ? "Figure 5" : "Figure 4";
    const std::string how = early ? ", with early stopping" : ", without early stopping";
    Svg(key + "-training-loss", figure, "Loss by epoch" + how, RenderPlot(LossPlot(results_)));
    Svg(key + "-training-accuracy", figure, "Accuracy by epoch" + how,
        RenderPlot(AccuracyPlot(results_)));
    Csv(key + "-training", figure, "Loss and accuracy by epoch" + how, TrainingCsv(results_));
  }

  absl::Status Embeddings() {
    ASSIGN_OR_RETURN(const std::vector<EmbeddingPlot> plots, EmbeddingPlots(results_, inputs_));
    for (const EmbeddingPlot& plot : plots) {
      const char* what = plot.kind == EmbeddingKind::kPca         ? "pca"
                         : plot.kind == EmbeddingKind::kTsneOfRaw ? "tsne"
                                                                  : "tsne-of-pca";
      const std::string title =
          absl::StrCat(plot.scatter.title, plot.kind == EmbeddingKind::kTsneOfRaw ? ""
                                           : plot.features ? ", of the network's features"
                                                           : ", of pixels");
      if (plot.features) {
        Both(absl::StrCat("features-", what), "", title, plot);
        continue;
      }
      // The seed shows principal components, and t-SNE of them, both as images and as points.
      const int points = plot.kind == EmbeddingKind::kPca         ? 10
                         : plot.kind == EmbeddingKind::kTsneOfRaw ? 1
                                                                  : 12;
      Both(absl::StrFormat("fig%02d-%s", points, what), absl::StrCat("Figure ", points), title,
           plot);
      if (plot.kind == EmbeddingKind::kTsneOfRaw) continue;
      ASSIGN_OR_RETURN(const Raster images,
                       ScatterOfImages(plot.scatter, *inputs_.images, plot.images));
      Add(absl::StrFormat("fig%02d-%s-images.png", points - 1, what),
          absl::StrCat("Figure ", points - 1), title + ": the images", PngBytes(images));
    }
    return absl::OkStatus();
  }
  void Both(const std::string& key, const std::string& figure, const std::string& title,
            const EmbeddingPlot& plot) {
    Svg(key, figure, title, ScatterSvg(plot.scatter));
    Csv(key, figure, title, PointsCsv(plot, manifest_));
  }

  void Case(const CasePanel& panel) {
    const std::string key = absl::StrCat("fig", panel.figure.size() < 2 ? "0" : "", panel.figure),
                      figure = "Figure " + panel.figure;
    if (panel.pictures.size() > 1)
      Svg(key + "-panel", figure, absl::StrCat(panel.title, ". ", panel.note), PanelSvg(panel));
    for (const PanelPicture& picture : panel.pictures) {
      Add(absl::StrCat(key, "-", Key(picture.key), ".png"), figure,
          panel.pictures.size() > 1 ? picture.caption : absl::StrCat(panel.title, ". ", panel.note),
          PngBytes(picture.raster));
    }
  }

  void Depth(const EvaluationReport& model) {
    Svg("calibration", "", "Calibration: stated probability against the share that is seen",
        RenderPlot(CalibrationPlot(model)));
    Csv("calibration", "", "Calibration", CalibrationCsv(model));
    Svg("decision-curve", "", "Decision curve, after temperature", RenderPlot(DecisionPlot(model)));
    Csv("decision-curve", "", "Decision curve, after temperature", DecisionCsv(model));
    Svg("subgroups-sensitivity", "", "Sensitivity by subgroup, at the validation-chosen threshold",
        SensitivityBySubgroup(model));
    if (!model.subgroups.empty())
      Csv("subgroups", "", "Subgroups, at the validation-chosen threshold", SubgroupCsv(model));
  }

  const v1::StudyResults& results_;
  const ReportInputs& inputs_;
  const v1::ImageSetManifest& manifest_;
  std::vector<FigureFile> files_;
};

std::string IndexPage(const std::string& study, const std::vector<FigureFile>& files) {
  std::string pictures, numbers;
  for (const FigureFile& file : files) {
    const std::string name = absl::StrCat("<a href=\"", file.name, "\">", file.name, "</a>");
    const std::string text = absl::StrCat(
        file.figure.empty() ? "" : absl::StrCat("<b>", file.figure, "</b> "), Escape(file.title));
    if (absl::EndsWith(file.name, ".csv")) {
      absl::StrAppend(&numbers, "<li>", name, " ", text, "</li>\n");
    } else {
      absl::StrAppend(&pictures, "<figure><a href=\"", file.name, "\"><img loading=\"lazy\" src=\"",
                      file.name, "\" alt=\"", Escape(file.title), "\"></a><figcaption>", text, " ",
                      name, "</figcaption></figure>\n");
    }
  }
  std::string missing;
  for (const std::string& one : MissingFigures(files))
    absl::StrAppend(&missing, "<li>", Escape(one), "</li>");
  return absl::StrCat(
      "<!doctype html>", kIndexMark,
      "<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>"
      "Figures of ",
      study,
      "</title><style>body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem "
      "auto;padding:0 1.5rem;color:#1f2328;"
      "background:#faf9f6}main{display:grid;gap:1.4rem;grid-template-columns:repeat(auto-fill,"
      "minmax(min(100%,340px),1fr));"
      "align-items:start}figure{margin:0;min-width:0}img{width:100%;border:1px solid "
      "#e4e2dc;border-radius:10px;background:#fff}"
      "figcaption{font-size:.85rem;overflow-wrap:anywhere}a{color:#0d7a6f}</style></"
      "head><body><h1>Figures of ",
      study,
      "</h1><p>Figures and tables are numbered as those of the seed paper that they are the "
      "counterparts of.</p>",
      missing.empty()
          ? ""
          : absl::StrCat("<p>This study has no counterpart of:</p><ul>", missing, "</ul>"),
      "<main>\n", pictures, "</main><h2>The numbers behind them</h2><ul>\n", numbers,
      "</ul></body></html>\n");
}

// Only such a folder is written into that is empty or was written by this.
absl::Status CheckFolder(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error)) {
    return absl::UnavailableError(absl::StrCat(
        folder.string(), " cannot be made: ", error ? error.message() : "it is a file"));
  }
  if (fs::is_empty(folder, error) || fs::exists(folder / "index.html", error)) {
    if (!fs::exists(folder / "index.html", error)) return absl::OkStatus();
    std::ifstream in(folder / "index.html");
    std::string first;
    std::getline(in, first);
    if (absl::StrContains(first, kIndexMark)) return absl::OkStatus();
  }
  return absl::AlreadyExistsError(absl::StrCat(folder.string(),
                                               " holds files that are not figures of a study "
                                               "(--figures): name another folder, or a new one"));
}

}  // namespace

std::string StandaloneSvg(const std::string& inline_svg) {
  std::vector<std::string> box;
  if (const size_t at = inline_svg.find("viewBox=\""); at != std::string::npos) {
    box = absl::StrSplit(inline_svg.substr(at + 9, inline_svg.find('"', at + 9) - at - 9), ' ');
  }
  if (box.size() != 4 || !absl::StartsWith(inline_svg, "<svg ")) return inline_svg;
  // The page gives its plots a margin.
  constexpr double kMargin = 14;
  double edges[4];
  for (int i = 0; i < 4; ++i) {
    if (!absl::SimpleAtod(box[i], &edges[i])) return inline_svg;
    edges[i] += i < 2 ? -kMargin : 2 * kMargin;
  }
  const std::string size = absl::StrFormat("width=\"%g\" height=\"%g\"", edges[2], edges[3]);
  const std::string old_box = absl::StrCat("viewBox=\"", absl::StrJoin(box, " "), "\"");
  const size_t end = inline_svg.find('>');
  const std::string attributes = absl::StrReplaceAll(
      inline_svg.substr(4, end - 4), {{old_box, absl::StrFormat("viewBox=\"%g %g %g %g\"", edges[0],
                                                                edges[1], edges[2], edges[3])}});
  std::string svg = absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" ", size, attributes,
                                 " font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', Arial, "
                                 "'DejaVu Sans', sans-serif\"><style>",
                                 kPlotStyle, "</style><rect x=\"", edges[0], "\" y=\"", edges[1],
                                 "\" ", size, " fill=\"#fff\"/>", inline_svg.substr(end + 1), "\n");
  for (const auto& [variable, colour] : kColours)
    svg = absl::StrReplaceAll(svg, {{variable, colour}});
  return svg;
}

absl::StatusOr<std::vector<FigureFile>> StudyFigures(const v1::StudyResults& results,
                                                     const ReportInputs& inputs) {
  if (inputs.images == nullptr || !inputs.fetch_payload) {
    return absl::InvalidArgumentError(
        "figures need the study's image set and a way to its payloads");
  }
  return Collection(results, inputs).Collect();
}

std::vector<std::string> MissingFigures(const std::vector<FigureFile>& files) {
  std::set<std::string> there;
  for (const FigureFile& file : files) there.insert(file.figure);
  constexpr char kEmbeddings[] =
      "a study with embeddings: {of: [pixels], tsne: {inputs: [raw, pca]}} has it";
  constexpr char kCases[] =
      "a study that explains a true positive (and, for Figure 13, a false negative) with "
      "activation_maps, lime and deep_shap has it";
  const std::pair<const char*, const char*> all[] = {
      {"Figure 1", kEmbeddings},
      {"Figure 2", "the test images are not evaluated"},
      {"Figure 3", "a study with baselines has it"},
      {"Figure 4", "a study without early_stopping has it"},
      {"Figure 5", "a study with early_stopping has it"},
      {"Figure 6", "the test images are not evaluated"},
      {"Figure 7", kCases},
      {"Figure 8", kCases},
      {"Figure 9", kEmbeddings},
      {"Figure 10", kEmbeddings},
      {"Figure 11", kEmbeddings},
      {"Figure 12", kEmbeddings},
      {"Figure 13", kCases},
      {"Table 1", "the test images are not evaluated"},
      {"Table 2", "the model is another program's"}};
  std::vector<std::string> missing;
  for (const auto& [figure, why] : all) {
    if (!there.contains(figure)) missing.push_back(absl::StrCat(figure, ": ", why));
  }
  return missing;
}

absl::StatusOr<size_t> WriteFigures(const v1::StudyResults& results, const ReportInputs& inputs,
                                    const std::string& folder) {
  RETURN_IF_ERROR(CheckFolder(folder));
  ASSIGN_OR_RETURN(const std::vector<FigureFile> files, StudyFigures(results, inputs));
  for (const FigureFile& file : files)
    RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder, "/", file.name), file.bytes));
  const std::string study =
      Escape(results.status().id().empty() ? results.spec().name() : results.status().id());
  RETURN_IF_ERROR(WriteFileAtomically(folder + "/index.html", IndexPage(study, files)));
  return files.size();
}

}  // namespace dermis
