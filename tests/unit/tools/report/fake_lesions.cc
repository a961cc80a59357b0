#include "tests/unit/tools/report/fake_lesions.h"

#include <algorithm>
#include <utility>

#include "common/lesion_tasks.h"

namespace dermis {

void AddFakeLesions(FakeStudy& study, double surroundings, double p) {
  v1::ExplanationSpec& explanation = *study.results.mutable_spec()->mutable_explanation();
  v1::LesionTestSpec& spec = *explanation.mutable_lesion_test();
  spec.set_primary(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  spec.set_against(v1::LESION_NULL_SHIFTED);
  spec.set_band(0.1);
  spec.set_placements(3);
  spec.set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  spec.set_draws(9999);
  explanation.mutable_shortcut()->add_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  explanation.mutable_shortcut()->add_hidden(v1::HIDDEN_VALUE_BLUR);
  explanation.mutable_shortcut()->set_draws(2000);

  v1::Payload payload;
  v1::LesionSummary& summary = *payload.mutable_lesion_summary();
  summary.set_images(540);
  summary.set_lesions(521);
  summary.set_mask_origin("expert");
  for (double v : {.31, .28, .20, .21}) summary.add_shares(v);
  for (double v : {.17, .08, .10, .65}) summary.add_areas(v);
  for (double v : {.42, .31, -.12, -.35}) summary.add_values(v);
  summary.set_additivity_residual(3e-7);
  int number = 0;
  const auto add = [&](v1::LesionHypothesis hypothesis, v1::LesionNull null) -> v1::LesionFinding& {
    v1::LesionFinding& finding = *summary.add_findings();
    finding.set_hypothesis(hypothesis);
    finding.set_null(null);
    finding.set_lesions(512);
    finding.set_effect(0.12 - 0.03 * number);
    finding.set_low(finding.effect() - 0.06);
    finding.set_high(finding.effect() + 0.06);
    finding.set_statistic(0.3);
    finding.set_p(number == 0 ? p : std::min(1.0, 0.001 + 0.04 * number));
    finding.set_adjusted_p(number == 0 ? p : std::min(1.0, 8 * finding.p()));
    ++number;
    return finding;
  };
  add(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE, v1::LESION_NULL_SHIFTED);
  for (uint32_t label : {0u, 1u}) {
    add(v1::LESION_HYPOTHESIS_BANDS_OVER_CORE, v1::LESION_NULL_SHIFTED).set_label(label);
  }
  for (int hypothesis = 1; hypothesis <= 4; ++hypothesis) {
    for (int null = 1; null <= 3; ++null) {
      if (hypothesis == 1 && null == 1) continue;
      add(static_cast<v1::LesionHypothesis>(hypothesis), static_cast<v1::LesionNull>(null));
    }
  }
  *study.results.mutable_lesion_test()->mutable_result() = study.Store(std::move(payload));

  payload.Clear();
  v1::ShortcutOutput& shortcut = *payload.mutable_shortcut();
  shortcut.set_images(540);
  shortcut.set_lesions(521);
  const auto area = [&](double value, double margin) -> v1::ShortcutArea& {
    v1::ShortcutArea& out = *shortcut.add_areas();
    out.set_area(value);
    out.set_low(value - margin);
    out.set_high(value + margin);
    return out;
  };
  area(.91, .03);
  for (const v1::Hide& hide : ShortcutVariants(explanation)) {
    *area(hide.show() == v1::LESION_REGION_LESION         ? .84
          : hide.show() == v1::LESION_REGION_SURROUNDINGS ? surroundings
                                                          : .88,
          hide.show() == v1::LESION_REGION_SURROUNDINGS ? .08 : .04)
         .mutable_hide() = hide;
  }
  *study.results.mutable_shortcut()->mutable_result() = study.Store(std::move(payload));
}

}  // namespace dermis
