#include "tools/report/trials.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/sweep.h"
#include "tools/report/plot.h"

namespace dermis {
namespace {

constexpr size_t kShown = 50;

}  // namespace

std::string MetricName(v1::SelectionMetric metric) {
  return metric == v1::SELECTION_METRIC_VALIDATION_ACCURACY ? "validation accuracy"
                                                            : "validation loss";
}

std::vector<const v1::TrialResult*> RankTrials(const v1::StudyResults& results) {
  const bool higher = results.spec().sweep().metric() == v1::SELECTION_METRIC_VALIDATION_ACCURACY;
  std::vector<const v1::TrialResult*> ranked;
  for (const v1::TrialResult& trial : results.trials()) ranked.push_back(&trial);
  const auto key = [&](const v1::TrialResult& trial) {
    double score = trial.has_score() ? (higher ? -trial.score() : trial.score())
                                     : std::numeric_limits<double>::infinity();
    if (std::isnan(score)) score = std::numeric_limits<double>::infinity();
    return std::tuple(trial.state() != "chosen", trial.state() == "failed",
                      -static_cast<int64_t>(trial.rung()), trial.state() == "dropped", score,
                      trial.trial());
  };
  std::sort(ranked.begin(), ranked.end(),
            [&](const auto* a, const auto* b) { return key(*a) < key(*b); });
  return ranked;
}

std::string RenderTrials(const v1::StudyResults& results) {
  const v1::SweepSpec& sweep = results.spec().sweep();
  std::string html = absl::StrCat(
      "<p>",
      sweep.axes().empty() ? std::string("One setting, by ")
                           : absl::StrCat(results.trials_size(), " trials, ranked by "),
      MetricName(sweep.metric()),
      sweep.seeds() > 1 ? absl::StrCat(", mean of ", sweep.seeds(), " seeds") : "",
      sweep.folds() > 0 ? absl::StrCat(", over ", sweep.folds(), " folds") : "",
      ". No test image was looked at to choose; only the trial that was taken is evaluated "
      "on them",
      sweep.seeds() > 1 ? ", with each of its seeds" : "",
      ".</p><div class=\"scroll\"><table><thead><tr><th>trial</th>");
  for (const v1::AxisSpec& axis : sweep.axes()) {
    absl::StrAppend(&html, "<th title=\"", Escape(axis.key()), "\">", Escape(ShortKey(axis.key())),
                    "</th>");
  }
  absl::StrAppend(&html, "<th>", MetricName(sweep.metric()), "</th><th>epochs</th><th>outcome</th>",
                  "</tr></thead><tbody>");
  const std::vector<const v1::TrialResult*> ranked = RankTrials(results);
  for (size_t k = 0; k < std::min(kShown, ranked.size()); ++k) {
    const v1::TrialResult& trial = *ranked[k];
    absl::StrAppend(&html, trial.state() == "chosen" ? "<tr class=\"ours\">" : "<tr>",
                    "<th scope=\"row\">", trial.trial(), "</th>");
    for (const auto& [setting, value] : SettingsOf(sweep, results.spec().seed(), trial.trial())) {
      absl::StrAppend(&html, "<td>", Escape(value), "</td>");
    }
    const std::string spread =
        trial.deviation() > 0 ? absl::StrFormat(" ± %.4f", trial.deviation()) : "";
    absl::StrAppend(
        &html, "<td>",
        trial.has_score() ? absl::StrCat(absl::StrFormat("%.4f", trial.score()), spread) : "–",
        "</td><td>", trial.epochs(), "</td><td>", Escape(trial.state()),
        trial.cause().empty() ? "" : absl::StrCat(": ", Escape(trial.cause())), "</td></tr>");
  }
  html += "</tbody></table></div>";
  if (ranked.size() > kShown) {
    absl::StrAppend(&html, "<p class=\"note\">And ", ranked.size() - kShown, " more.</p>");
  }
  if (sweep.has_halving() || sweep.has_hyperband()) {
    html +=
        "<p class=\"note\">A dropped trial’s score is of the epochs that it had when its rung was "
        "decided.</p>";
  }
  return html;
}

}  // namespace dermis
