#include "tools/dermis/preview.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/checks.h"
#include "common/estimators.h"
#include "common/number_text.h"
#include "common/spec_yaml.h"
#include "common/tasks.h"
#include "coordinator/study_run.h"
#include "tests/simulation/fakes.h"
#include "tools/dermis/study_file.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// 40 images a class.
v1::ImageSetManifest TwoClasses() {
  v1::ImageSetManifest manifest;
  manifest.set_height(64);
  manifest.set_width(64);
  manifest.add_classes("benign");
  manifest.add_classes("malignant");
  for (uint32_t i = 0; i < 80; ++i) {
    v1::ImageEntry& image = *manifest.add_images();
    image.set_name(absl::StrCat("image-", 100 + i));
    image.set_label(i % 2);
  }
  return manifest;
}

std::string PreviewOf(const v1::StudySpec& spec) {
  const absl::StatusOr<std::string> text = Preview(spec, TwoClasses());
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

TEST(PreviewTest, AGivenModelOfEveryFormat_IsNotTrained_AndItsExplanationIsPriced) {
  for (const char* model : {"file: m.onnx", "file: m.pth", "file: m.safetensors, kind: resnet18"}) {
    const absl::StatusOr<v1::StudySpec> parsed = ParseStudyYaml(
        absl::StrCat("name: given\nimages: {size: 64, split: {test: 1}}\nmodel: {", model, ", digest: ",
                     std::string(64, 'a'), "}\nexplanation: {methods: [lime]}\n"),
        "given.yaml");
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const absl::StatusOr<v1::StudySpec> spec = ResolveSpec(*parsed);
    ASSERT_TRUE(spec.ok()) << spec.status();
    const std::string text = PreviewOf(*spec);
    EXPECT_THAT(text, HasSubstr("Images: 80 test\n")) << model;
    EXPECT_THAT(text, HasSubstr("Training: none (the model is given)\n")) << model;
    EXPECT_THAT(text, HasSubstr("Explanation: at most 20 images, ")) << model;
    EXPECT_THAT(text, HasSubstr("Checks, fidelity: ")) << model;
  }
}

TEST(PreviewTest, NumbersAreWrittenOut_AndWhatIsNoneIsNotSaid) {
  const v1::StudySpec spec = *ResolveSpec(*ParseStudyYaml(
      "name: a\nimages: {size: 64}\nexplanation: {methods: [lime: {samples: 5000}]}\n", "a.yaml"));
  const std::string text = PreviewOf(spec);
  EXPECT_THAT(text, HasSubstr("about 80,000 masked inputs\n"));
  EXPECT_THAT(text, Not(HasSubstr("e+")));
  EXPECT_THAT(text, Not(HasSubstr(" 0 gradients")));
}

TEST(PreviewTest, TheStudyToStartWith_RunsOnAFolderPerClass) {
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "set DERMIS_SOURCE_DIR to the source tree";
  const absl::StatusOr<StudyFile> study = ReadStudy(absl::StrCat(source, "/studies/start.yaml"));
  ASSERT_TRUE(study.ok()) << study.status();
  EXPECT_TRUE(CheckFiles(*study, TwoClasses()).ok());
  EXPECT_THAT(PreviewOf(study->spec), HasSubstr("Training: 1 trial"));
}

// --- What is priced is what the study's planner then wants.

// Inputs that the model runs for a task, and gradients that are taken, of two classes: from what a
// worker is told. Not of fidelity, see explain_checks_test.
v1::Perturbation PerturbationOf(const v1::TaskSpec& task) {
  return task.has_perturb() ? task.perturb().perturbation() : task.fit().perturbation();
}

uint64_t InputsOf(const v1::TaskSpec& task) {
  const v1::Perturbation perturbation = PerturbationOf(task);
  const uint64_t of_a_mask =
      std::max(uint64_t{1}, 2 * uint64_t{perturbation.hiding().background().per_class()});
  if (task.has_fit()) return perturbation.partition().budget() * of_a_mask;  // Others are of runs.
  if (!task.has_perturb()) return 0;
  const uint64_t run = task.perturb().run();
  if (perturbation.has_shapley()) {
    const uint64_t pairs =
        std::min<uint64_t>(kShapleyRun, perturbation.shapley().permutations() - run * kShapleyRun);
    return ((run == 0 ? 2 : 0) + 2 * pairs * (AboutSuperpixels(perturbation.superpixels()) - 1)) *
           of_a_mask;
  }
  const uint64_t length = perturbation.has_lime() ? kLimeRun : kMaskRun;
  return std::min(length, RowCount(perturbation) - run * length) * of_a_mask;
}

uint64_t GradientsOf(const v1::TaskSpec& task) {
  const v1::GradientTask& gradient = task.gradient();
  if (gradient.has_deep_shap()) return 2 * uint64_t{gradient.background().per_class()};
  return task.has_activations() + gradient.expected_gradients().samples() +
         gradient.integrated_gradients().steps() + gradient.smooth_grad().samples();
}

Price PriceOf(const std::vector<v1::TaskSpec>& tasks) {
  Price price;
  for (const v1::TaskSpec& task : tasks) {
    ++price.tasks;
    price.inputs += InputsOf(task);
    price.gradients += GradientsOf(task);
  }
  return price;
}

// What the planner wants in a stage of a study that runs to its end, with results that are made up:
// every image has as many superpixels as were asked for.
std::vector<v1::TaskSpec> WantedIn(Stage stage, const v1::StudySpec& spec,
                                   std::shared_ptr<const v1::ImageSetManifest> manifest) {
  FakeBlobs blobs;
  auto run = *StudyRun::Make(spec, Sha256Of("set"), manifest, "fake/1");
  const Split split = *MakeSplit(*manifest, spec.images().split(), spec.seed());
  const SweepPlanner::Training& training = run->sweep().training(0);
  const uint64_t per_epoch = training.planner.steps_per_epoch();
  std::vector<v1::TaskSpec> wanted;
  StudyRun::Wants open = *run->OnState(
      training.digest,
      FakeState(training.recipe, "fake/1", spec.training().epochs() * per_epoch, per_epoch, blobs));
  while (!open.empty()) {
    const StudyRun::Want want = open.back();
    open.pop_back();
    if (want.stage == stage) wanted.push_back(want.spec);
    const auto more = run->OnResult(want.task, [&]() -> absl::StatusOr<v1::Payload> {
      v1::Payload payload = FakePayload(want.spec, split);
      if (payload.has_superpixels()) {
        payload.mutable_superpixels()->set_count(
            AboutSuperpixels(want.spec.superpixels().superpixels()));
      }
      return payload;
    });
    EXPECT_TRUE(more.ok()) << more.status();
    open.insert(open.end(), more->begin(), more->end());
  }
  EXPECT_TRUE(run->done());
  return wanted;
}

// Every kind of method, each with superpixels of its own; 18 test images.
constexpr char kEveryMethod[] =
    "explanation:\n"
    "  images: {all_test: true}\n"
    "  hiding: {background_per_class: 3}\n"
    "  background: {per_class: 4}\n"
    "  methods:\n"
    "    - lime: {samples: 300, superpixels: {grid: {rows: 2, columns: 3}}}\n"
    "    - shapley: {permutations: 5, hidden: background, superpixels: {grid: {rows: 2, columns: "
    "4}}}\n"
    "    - shapley: {estimator: exact, superpixels: {grid: {rows: 3, columns: 3}}}\n"
    "    - shapley: {estimator: leverage, budget: 600, superpixels: {slic: {count: 20}}}\n"
    "    - shapley: {estimator: partition, budget: 100, superpixels: {grid: {rows: 4, columns: "
    "6}}}\n"
    "    - occlusion: {superpixels: {grid: {rows: 5, columns: 5}}}\n"
    "    - rise: {samples: 70, superpixels: {grid: {rows: 6, columns: 5}}}\n"
    "    - deep_shap: {}\n"
    "    - expected_gradients: {samples: 12}\n"
    "    - integrated_gradients: {steps: 9}\n"
    "    - smooth_grad: {samples: 7}\n"
    "    - grad_cam: {}\n"
    "    - hires_cam: {}\n"
    "    - layer_cam: {}\n";

struct Priced {
  const char* what;
  Stage stage;
  const char* checks;
  uint64_t images;
};

class PriceTest : public testing::TestWithParam<Priced> {};

TEST_P(PriceTest, IsWhatThePlannerThenWants) {
  const auto manifest = FakeManifest(60);
  const auto spec = FakeSpec("a", 3, 0, absl::StrCat(kEveryMethod, GetParam().checks));
  ASSERT_TRUE(spec.ok()) << spec.status();
  const std::vector<v1::TaskSpec> tasks = WantedIn(GetParam().stage, *spec, manifest);
  const Price wanted = PriceOf(tasks);
  ASSERT_GT(wanted.tasks, GetParam().images);
  const absl::StatusOr<std::string> text = Preview(*spec, *manifest);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text,
              HasSubstr(absl::StrCat(GetParam().what, ": at most ", GetParam().images, " images, ",
                                     NumberText(static_cast<double>(wanted.tasks)), " tasks")));
  if (GetParam().what == std::string("Checks, fidelity")) return;  // The rest is not in its tasks.
  EXPECT_THAT(*text, HasSubstr(absl::StrCat(
                         " tasks, about ", NumberText(static_cast<double>(wanted.inputs), 3),
                         " masked inputs, about ",
                         NumberText(static_cast<double>(wanted.gradients), 3), " gradients\n")));
  if (GetParam().stage == Stage::kExplanation) {
    EXPECT_EQ(SizeOf(spec->explanation(), GetParam().images, 2).inputs, wanted.inputs);
  } else {
    const Price each = PricesOfChecks(spec->explanation(), v1::MODEL_KIND_SEED_CNN, 2).stability;
    EXPECT_EQ(each.inputs * GetParam().images, wanted.inputs);
    EXPECT_EQ(each.gradients * GetParam().images, wanted.gradients);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Stages, PriceTest,
    testing::Values(
        Priced{"Explanation", Stage::kExplanation, "  checks: {fidelity: false}\n", 18},
        Priced{"Checks, fidelity", Stage::kChecks,
               "  checks: {superpixels: {grid: {rows: 7, columns: 3}}}\n", 18},
        Priced{"Checks, stability", Stage::kChecks,
               "  checks: {fidelity: false, superpixels: {grid: {rows: 7, columns: 3}}, stability: "
               "{images: 4, noise_draws: 3, seeds: 2}}\n",
               4}),
    [](const auto& info) {
      return std::string(info.index == 0   ? "explanation"
                         : info.index == 1 ? "fidelity"
                                           : "stability");
    });

}  // namespace
}  // namespace dermis
