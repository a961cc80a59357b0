#include "tools/report/flow.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"

#include "common/bootstrap.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr double kLine = 17, kPadding = 12, kWidth = 780;
constexpr int kMostClasses = 4;  // In a box; more are added up.

struct Box {
  double x = 0, y = 0, width = 0;
  std::string title;
  std::vector<std::string> lines;
  bool quiet = false;  // What did not go on.

  double height() const { return 2 * kPadding + kLine * static_cast<double>(1 + lines.size()) - 4; }
  double bottom() const { return y + height(); }
  double middle() const { return x + width / 2; }
};

std::string Draw(const Box& box) {
  std::string svg = absl::StrFormat(
      "<rect class=\"box%s\" x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" rx=\"10\"/>",
      box.quiet ? " quiet" : "", box.x, box.y, box.width, box.height());
  double y = box.y + kPadding + 10;
  const auto text = [&](const std::string& words, const char* kind) {
    const double room = box.width - 2 * kPadding;
    const std::string fit =
        6.4 * static_cast<double>(words.size()) > room * 1.1
            ? absl::StrFormat(" textLength=\"%g\" lengthAdjust=\"spacingAndGlyphs\"", room)
            : "";
    absl::StrAppendFormat(&svg, "<text class=\"%s\" x=\"%g\" y=\"%g\"%s>%s</text>", kind,
                          box.x + kPadding, y, fit, Escape(words));
    y += kLine;
  };
  text(box.title, "head");
  for (const std::string& line : box.lines) text(line, "line-text");
  return svg;
}

std::string Arrow(double from_x, double from_y, double to_x, double to_y) {
  const double half = (from_y + to_y) / 2;
  return from_x == to_x
             ? absl::StrFormat("<path class=\"arrow\" d=\"M%g %gV%g\"/>", from_x, from_y, to_y - 3)
         : from_y == to_y
             ? absl::StrFormat("<path class=\"arrow\" d=\"M%g %gH%g\"/>", from_x, from_y, to_x - 3)
             : absl::StrFormat("<path class=\"arrow\" d=\"M%g %gV%gH%gV%g\"/>", from_x, from_y,
                               half, to_x, to_y - 3);
}

std::string Images(size_t count) { return absl::StrCat(count, count == 1 ? " image" : " images"); }

// "1440 benign", ..., then how many lesions.
std::vector<std::string> Contents(const v1::ImageSetManifest& manifest,
                                  absl::Span<const uint32_t> images) {
  std::vector<std::string> lines;
  if (!manifest.unlabelled()) {
    std::vector<size_t> by_class(static_cast<size_t>(manifest.classes_size()));
    for (const uint32_t image : images) {
      const uint32_t label = manifest.images(static_cast<int>(image)).label();
      if (label < by_class.size()) ++by_class[label];
    }
    size_t others = 0;
    for (size_t c = 0; c < by_class.size(); ++c) {
      if (c < kMostClasses) {
        lines.push_back(absl::StrCat(by_class[c], " ", manifest.classes(static_cast<int>(c))));
      } else {
        others += by_class[c];
      }
    }
    if (others > 0) lines.push_back(absl::StrCat(others, " of other classes"));
  }
  const std::vector<uint32_t> groups = GroupsOf(manifest, images);
  const size_t lesions =
      groups.empty() ? 0 : *std::max_element(groups.begin(), groups.end()) + size_t{1};
  if (lesions > 0 && lesions < images.size())
    lines.push_back(absl::StrCat("of ", lesions, " lesions or patients"));
  return lines;
}

}  // namespace

std::string RenderFlow(const v1::StudyResults& results, const v1::ImageSetManifest& manifest,
                       const Split& split) {
  const size_t in_set = static_cast<size_t>(manifest.images_size());
  size_t received = in_set;
  for (const v1::LeftOutFiles& files : manifest.left_out()) received += files.files();
  const size_t taken = split.training.size() + split.validation.size() + split.test.size();
  constexpr double kBox = 244, kGap = 24, kMain = 60;

  std::vector<uint32_t> all(in_set);
  std::iota(all.begin(), all.end(), 0u);
  std::string svg;
  Box from{0,
           0,
           2 * kBox + kGap - kMain,
           absl::StrCat(received, received == in_set ? " images in the set" : " files received"),
           {},
           false};
  if (received == in_set) from.lines = Contents(manifest, all);
  Box out{from.width + kMain, 0, kWidth - from.width - kMain, "", {}, true};
  for (const v1::LeftOutFiles& files : manifest.left_out())
    out.lines.push_back(absl::StrCat(files.files(), ": ", files.reason()));
  if (in_set > taken) {
    out.lines.push_back(absl::StrCat(in_set - taken, ": ",
                                     results.spec().images().split().masked_only()
                                         ? "without a lesion mask"
                                         : "in no part of the split"));
  }
  const size_t lost = received - taken;
  out.title = absl::StrCat(lost, " left out");
  if (lost == 0) out.lines = {"as far as the set says"};
  svg += Draw(from) + Draw(out) + Arrow(from.width, 30, out.x, 30);

  const double row = std::max(from.bottom(), out.bottom()) + 44;
  Box parts[] = {
      {0, row, kBox, absl::StrCat("Training: ", Images(split.training.size())),
       Contents(manifest, split.training)},
      {kBox + kGap, row, kBox, absl::StrCat("Validation: ", Images(split.validation.size())),
       Contents(manifest, split.validation)},
      {2 * (kBox + kGap), row, kBox, absl::StrCat("Test: ", Images(split.test.size())),
       Contents(manifest, split.test)}};
  double low = 0;
  for (const Box& part : parts) low = std::max(low, part.bottom());

  const size_t masked =
      static_cast<size_t>(std::count_if(split.test.begin(), split.test.end(), [&](uint32_t image) {
        return manifest.images(static_cast<int>(image)).has_mask();
      }));
  Box uses[] = {
      {0, low + 44, kBox, "Weights are fitted", {}},
      {kBox + kGap,
       low + 44,
       kBox,
       "Chooses",
       {"when training stops,", "thresholds and temperature"}},
      {2 * (kBox + kGap),
       low + 44,
       kBox,
       absl::StrCat("Evaluated: ", Images(static_cast<size_t>(results.test_images_size()))),
       {absl::StrCat(results.explained_size(), " explained"),
        absl::StrCat(masked, " with a lesion mask")}}};
  const uint32_t batch = results.spec().training().batch_size();
  if (results.spec().has_model()) {
    uses[0].title = "No training: the model was given";
    uses[1].lines = {"thresholds and temperature"};
  } else if (batch > 0) {
    uses[0].lines = {
        absl::StrCat("in batches of ", batch, "; ", split.training.size() % batch, " images"),
        "wait for the next epoch"};
  }
  for (int i = 0; i < 3; ++i) {
    const size_t size = i == 0   ? split.training.size()
                        : i == 1 ? split.validation.size()
                                 : split.test.size();
    if (size == 0) continue;
    svg += Arrow(from.middle(), from.bottom(), parts[i].middle(), row) + Draw(parts[i]) +
           Arrow(parts[i].middle(), parts[i].bottom(), uses[i].middle(), uses[i].y) + Draw(uses[i]);
  }
  double height = 0;
  for (const Box& use : uses) height = std::max(height, use.bottom());
  return absl::StrFormat(
      "<svg class=\"plot flow\" viewBox=\"-16 -16 %g %g\" role=\"img\" aria-label=\"%s\">"
      "<marker id=\"arrowhead\" viewBox=\"0 0 6 6\" refX=\"4\" refY=\"3\" markerWidth=\"7\" "
      "markerHeight=\"7\" "
      "orient=\"auto\"><path d=\"M0 0L6 3L0 6z\"/></marker>%s</svg>",
      kWidth + 32, height + 32,
      Escape(absl::StrFormat(
          "Flow of the images: %d received, %d left out, %d for training, %d for validation, "
          "%d for test",
          received, lost, split.training.size(), split.validation.size(), split.test.size())),
      svg);
}

}  // namespace dermis
