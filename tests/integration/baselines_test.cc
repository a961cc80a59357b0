// Baselines, embeddings and the evaluation of all models as users run them: the same bits for any
// number of workers and through a crash, and no test pixel decides anything that is chosen.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <regex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/image_set.h"
#include "tests/integration/test_cluster.h"
#include "tools/dermis/client.h"
#include "worker/classical/model_file.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr char kStudy[] = R"(name: seed
seed: 3
images: {set: small, size: 16, split: {column: part, validation: 0.2}}
training: {logical_shards: 4, batch_size: 32, epochs: 2}
baselines:
  random_forest: {trees: [3, 9], depth: [2, 3]}
  logistic_regression: {c: [10, 100]}
  sizes: [8, 16]
  folds: 4
embeddings: {pca: {components: 8}, tsne: {perplexity: 10, iterations: 300}, neighbours: 7}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}
  baselines: true
  methods:
    - shapley: {estimator: exact, superpixels: {grid: {rows: 3}}}
    - occlusion: {superpixels: {grid: {rows: 3}}}
    - grad_cam
  checks: {fidelity: false}
)";

// 300 synthetic lesions with a column that says who tests; the pixels of those may be inverted.
std::string Set(const TestCluster& cluster, bool inverted) {
  const std::string made = (cluster.directory() / "made.images").string();
  const CommandResult synth = Dermis(absl::StrCat("synth --count 300 --size 64 -o ", made));
  EXPECT_EQ(synth.exit_code, 0) << synth.output;
  const auto set = ImageSet::OpenFile(made);
  EXPECT_TRUE(set.ok()) << set.status();
  v1::ImageSetManifest header = (*set)->manifest();
  std::vector<PackedImage> images;
  for (int i = 0; i < header.images_size(); ++i) {
    PackedImage& image = images.emplace_back();
    image.entry = header.images(i);
    image.pixels = std::string(*(*set)->Pixels(static_cast<uint32_t>(i)));
    if (image.entry.has_mask()) image.mask = std::string(*(*set)->Mask(static_cast<uint32_t>(i)));
    image.entry.clear_attributes();
    v1::Attribute& part = *image.entry.add_attributes();
    part.set_key("part");
    part.set_value(i % 5 < 2 ? "test" : "train");
    if (inverted && i % 5 < 2) {
      for (char& byte : image.pixels) byte = static_cast<char>(~byte);
    }
  }
  header.clear_images();
  header.clear_chunks();
  const std::string path = (cluster.directory() / "parted.images").string();
  EXPECT_TRUE(WriteImageSet(path, header, std::move(images)).ok());
  return path;
}

// phi = sum of w (x - b) over a superpixel's pixels, from the image's bytes and the model's file. A
// pixel of the model is the mean of a block of the image's; what rounding that mean to a byte adds
// goes to the superpixels by their share of the block.
std::vector<double> ClosedForm(const LogisticModel& model, std::string_view image, uint32_t side,
                               const v1::SuperpixelOutput& cut) {
  const uint32_t block = side / model.size;
  const double share = 1.0 / (block * block);
  double hidden[3] = {};  // The training images' mean colour.
  for (size_t i = 0; i < model.mean.size(); ++i) {
    hidden[i % 3] += model.mean[i] * 255 * 3 / static_cast<double>(model.mean.size());
  }
  std::vector<double> values(cut.count(), 0.0);
  for (uint32_t y = 0; y < side; ++y) {
    for (uint32_t x = 0; x < side; ++x) {
      const size_t pixel = size_t{y} * side + x;
      const size_t label = static_cast<uint8_t>(cut.labels()[2 * pixel]);
      const size_t cell = (size_t{y / block} * model.size + x / block) * 3;
      for (size_t c = 0; c < 3; ++c) {
        double sum = 0;
        for (uint32_t v = 0; v < block; ++v) {
          for (uint32_t u = 0; u < block; ++u) {
            const size_t at = size_t{y / block * block + v} * side + x / block * block + u;
            sum += static_cast<uint8_t>(image[3 * at + c]);
          }
        }
        const double rounding = std::floor(sum * share + 0.5) - sum * share;
        const double own = static_cast<uint8_t>(image[3 * pixel + c]) + rounding - hidden[c];
        values[label] += model.weights[cell + c] / 255 * share * own;
      }
    }
  }
  return values;
}

// Of each logistic regression, as it stands in the cluster's store.
void ExpectLinearModelsAreExplainedByTheirWeights(const TestCluster& cluster) {
  auto client = Client::Connect(cluster.cluster());
  ASSERT_TRUE(client.ok()) << client.status();
  const auto results = (*client)->Results("seed");
  ASSERT_TRUE(results.ok()) << results.status();
  const auto images = (*client)->OpenImages(results->image_set());
  ASSERT_TRUE(images.ok()) << images.status();
  int compared = 0;
  for (const v1::ExplainedImage& image : results->explained()) {
    const auto pixels = (*images)->Pixels(image.image());
    ASSERT_TRUE(pixels.ok()) << pixels.status();
    for (const v1::ExplainedBaseline& by : image.baselines()) {
      const v1::BaselineResult& baseline = results->baselines(static_cast<int>(by.baseline()));
      const auto fit = (*client)->FetchPayload(baseline.fit());
      ASSERT_TRUE(fit.ok()) << fit.status();
      const auto model = ParseClassicalModel(fit->baseline().model());
      ASSERT_TRUE(model.ok()) << model.status();
      const auto* const logistic = std::get_if<LogisticModel>(&*model);
      if (logistic == nullptr) continue;
      const auto cut = (*client)->FetchPayload(by.results(0).superpixels());
      ASSERT_TRUE(cut.ok()) << cut.status();
      const std::vector<double> due =
          ClosedForm(*logistic, *pixels, (*images)->manifest().height(), cut->superpixels());
      double scale = 0;
      for (const double value : due) scale = std::max(scale, std::abs(value));
      EXPECT_GT(scale, 1e-3) << "a model that looks at nothing shows nothing";
      for (const v1::MethodResult& method : by.results()) {  // Exact Shapley values, occlusion.
        if (method.method().shapley().hidden() == v1::HIDDEN_VALUE_BACKGROUND) continue;
        const auto attribution = (*client)->FetchPayload(method.result());
        ASSERT_TRUE(attribution.ok()) << attribution.status();
        const v1::Attribution& values = attribution->fit();
        ASSERT_EQ(static_cast<size_t>(values.values_size()), due.size());
        // A logit is a float.
        const double rounding =
            1e-6 * std::max({1.0, std::abs(values.full()), std::abs(values.hidden())}) +
            1e-5 * scale;
        for (size_t k = 0; k < due.size(); ++k) {
          EXPECT_NEAR(values.values(static_cast<int>(k)), due[k], rounding) << baseline.size();
        }
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 8) << "two sizes, two methods, two images at least";
}

// On the study's own images, which is said, and on others, where their innocence is claimed. The
// thresholds and the temperature of both: the model's own validation images choose them.
Json EvaluatedElsewhere(const TestCluster& cluster, const std::string& images) {
  const std::string page = (cluster.directory() / "elsewhere.html").string(),
                    other = (cluster.directory() / "other.images").string();
  const std::string
      claim = "no image of this set took part in any choice",
      warning =
          "300 of 300 images stand in the study's own set 'synthetic', 180 of them among those";
  const CommandResult own =
      cluster.Run(absl::StrCat("evaluate seed --images ", images, " -o ", page));
  EXPECT_EQ(own.exit_code, 0) << own.output;
  EXPECT_THAT(own.output, AllOf(HasSubstr("validation images chose"), HasSubstr("300 images"),
                                HasSubstr("warning: no external validation: " + warning),
                                Not(HasSubstr(claim))));
  EXPECT_THAT(
      ReadAll(page),
      AllOf(
          HasSubstr("<p class=\"lead\">Warning, this is no external validation: 300 of 300 images"),
          Not(HasSubstr("External validation: ")), Not(HasSubstr(claim)),
          HasSubstr("evaluated on images of this test split, in 2 studies of this cluster.</p>")));
  EXPECT_EQ(Dermis(absl::StrCat("synth --count 40 --size 64 --seed 77 -o ", other)).exit_code, 0);
  const CommandResult foreign =
      cluster.Run(absl::StrCat("evaluate seed --images ", other, " -o ", page));
  EXPECT_EQ(foreign.exit_code, 0) << foreign.output;
  const std::string once =
      " 1 model was evaluated on images of this test split, in 1 study of this cluster.";
  EXPECT_THAT(foreign.output, AllOf(HasSubstr(claim), HasSubstr("\n " + once + "\n"),
                                    Not(HasSubstr("no external validation"))));
  EXPECT_THAT(ReadAll(page), AllOf(HasSubstr("External validation: "), HasSubstr(claim),
                                   HasSubstr(once + "</p>"), Not(HasSubstr("is no external"))));
  Json found;
  for (const std::string& set : {images, other}) {
    const CommandResult told =
        Shell(absl::StrCat(Program("dermis"), " evaluate seed --images ", set, " --cluster ",
                           cluster.cluster(), " -o json 2>/dev/null"));
    const Json json = Json::parse(told.output, nullptr, false);
    EXPECT_TRUE(json.is_object()) << told.output;
    if (!json.is_object()) return {};
    EXPECT_EQ(json["own_images"]["images"], set == images ? 300 : 0);
    EXPECT_EQ(json["own_images"]["trained_or_chosen_on"], set == images ? 180 : 0);
    found.push_back(
        {json["at_chosen"]["threshold"], json["temperature"], json["validation_images"]});
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_TRUE(found[0][0].is_number() && found[0][1].is_number()) << found;
  return found;
}

Json ResultsOn(int workers, bool inverted, bool crash = false, const std::string& study = kStudy) {
  TestCluster cluster;
  const CommandResult start = cluster.Start(workers);
  EXPECT_EQ(start.exit_code, 0) << start.output;
  const std::string images = Set(cluster, inverted);
  const std::string run =
      absl::StrCat("run ", cluster.Write("s.yaml", study), " --images ", images);
  const CommandResult preview = cluster.Run(run + " --preview");
  EXPECT_THAT(preview.output, HasSubstr("Explanation of 4 baselines: at most 4 images, "));
  if (crash) {
    EXPECT_EQ(cluster.Run(run + " --detach").exit_code, 0);
    EXPECT_TRUE(cluster.AwaitDoing("baseline|t-SNE|principal|separation"));
    cluster.Kill9("worker-1");
    cluster.Kill9("coordinator");
    EXPECT_EQ(cluster.Start(workers).exit_code, 0) << cluster.Log("coordinator");
  }
  const CommandResult ran = cluster.Run(run, 300);
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("Baseline random forest at 16 px: "));
  if (!crash) ExpectLinearModelsAreExplainedByTheirWeights(cluster);
  const CommandResult json = cluster.Run("results seed -o json");
  EXPECT_EQ(json.exit_code, 0) << json.output;
  const std::string page = (cluster.directory() / "report.html").string();
  const CommandResult report = cluster.Run("report seed -o " + page);
  EXPECT_EQ(report.exit_code, 0) << report.output;
  const fs::path explanations = cluster.directory() / "explanations";
  const CommandResult written = cluster.Run("results seed --explanations " + explanations.string());
  EXPECT_EQ(written.exit_code, 0) << written.output;
  EXPECT_TRUE(fs::exists(explanations / "attributions.csv"));
  Json results = Json::parse(json.output, nullptr, false);
  results["evaluated"] = EvaluatedElsewhere(cluster, images);
  const fs::path trials = cluster.directory() / "trials";
  const CommandResult tables = cluster.Run("results seed --trials " + trials.string());
  EXPECT_EQ(tables.exit_code, 0) << tables.output;
  // A recipe's address names the image set, too.
  results["trials"] = {
      std::regex_replace(ReadAll(trials / "trials.csv"), std::regex(",[0-9a-f]{12},"), ",recipe,"),
      ReadAll(trials / "epochs.csv")};
  return results;
}

// Each of the four, on every explained image, by the methods that hide superpixels.
void ExpectExplainedBaselines(const Json& results) {
  ASSERT_GE(results["explained"].size(), 2u);
  const auto numbers = [](const Json& attribution) {
    return attribution["result"]["fit"]["values"].get<std::vector<double>>();
  };
  for (const Json& image : results["explained"]) {
    EXPECT_EQ(image["attributions"].size(), 3u);
    ASSERT_EQ(image["baselines"].size(), 4u);
    for (const Json& baseline : image["baselines"]) {
      const std::string model = baseline["model"];
      ASSERT_EQ(baseline["attributions"].size(), 2u) << model << " has no maps";
      const Json& shapley = baseline["attributions"][0];
      const std::vector<double> values = numbers(shapley),
                                alone = numbers(baseline["attributions"][1]);
      ASSERT_EQ(values.size(), 9u);
      ASSERT_EQ(alone.size(), 9u);
      const bool forest = model.rfind("random-forest-", 0) == 0;
      EXPECT_EQ(shapley["output"], forest ? "OUTPUT_KIND_PROBABILITY" : "OUTPUT_KIND_MARGIN");
      const Json& fit = shapley["result"]["fit"];
      const double full = fit.value("full", 0.0), hidden = fit.value("hidden", 0.0);
      EXPECT_NEAR(std::accumulate(values.begin(), values.end(), hidden), full, 1e-9) << model;
      // What a linear model gives a superpixel depends on no other one.
      const double rounding = 2e-5 * std::max({1.0, std::abs(full), std::abs(hidden)});
      for (size_t k = 0; k < 9 && !forest; ++k) EXPECT_NEAR(values[k], alone[k], rounding) << model;
      EXPECT_TRUE(!forest || (full >= 0 && full <= 1 && hidden >= 0 && hidden <= 1))
          << full << " " << hidden;
    }
  }
}

// Of pixels: each of the 300 images by the others. Of features: the 120 test images, by the images
// that the network was trained on.
void ExpectSeparations(const Json& embeddings) {
  int found = 0;
  for (const Json& embedding : embeddings) {
    ASSERT_FALSE(embedding["result"].is_null());
    if (!embedding["task"].contains("separation")) continue;
    ++found;
    const bool features = embedding["task"]["separation"]["pca"].contains("model");
    const Json& separation = embedding["result"]["separation"];
    std::vector<std::string> spaces, associations;
    for (const Json& space : separation["spaces"]) {
      spaces.push_back(space["space"]);
      EXPECT_EQ(space["images"], features ? 120 : 300) << space;
    }
    EXPECT_THAT(spaces, ElementsAre("raw", "pca", "tsne of raw", "tsne of pca"));
    for (const Json& association : separation["associations"]) {
      associations.push_back(absl::StrCat(association["component"].get<int>(), " ",
                                          association["property"].get<std::string>()));
    }
    std::vector<std::string> due;
    for (int component = 1; component <= 5; ++component) {
      for (const char* property : {"lesion area", "L*", "a*", "b*"})
        due.push_back(absl::StrCat(component, " ", property));
    }
    EXPECT_EQ(associations, due);
  }
  EXPECT_EQ(found, 2);
}

TEST(Baselines, AreTheSameBits_WithOneWorker_OrThreeAndACrash) {
  const Json one = ResultsOn(1, false), three = ResultsOn(3, false, true);
  ASSERT_FALSE(one.is_discarded());
  EXPECT_EQ(one, three);
  ASSERT_EQ(one["baselines"].size(), 4u);
  for (const Json& baseline : one["baselines"]) {
    EXPECT_EQ(baseline["points"].size(), 4u);
    EXPECT_EQ(baseline["points"][0]["folds"].size(), 4u);
    EXPECT_EQ(baseline["test"].size(), 120u);
    EXPECT_FALSE(baseline["chosen"].is_null());
  }
  ExpectExplainedBaselines(one);
  ASSERT_EQ(one["embeddings"].size(), 8u);
  ExpectSeparations(one["embeddings"]);
  EXPECT_EQ(one["test_use"]["models"], 5);
  EXPECT_EQ(one["test_use"]["studies"], 1);
}

// Of an image that is explained: the background set that DeepSHAP compares it with, and the mean of
// the model's output over it; and over that which stands for hidden superpixels.
std::vector<Json> BackgroundOf(const Json& results) {
  std::vector<Json> found;
  for (const Json& attribution : results["explained"][0]["attributions"]) {
    const Json& result = attribution["result"];
    if (attribution["method"].contains("deep_shap")) {
      found.push_back(result["gradient"]["background"]);
      found.push_back(result["gradient"]["reference"]);
    } else if (absl::StrContains(attribution["method"].dump(), "BACKGROUND")) {
      found.push_back(result["fit"]["hidden"]);
    }
  }
  return found;
}

TEST(Baselines, TestPixels_DecideNothingThatIsChosen) {
  // Of two trials one is taken, and background sets are chosen, too.
  const std::string study = absl::StrReplaceAll(
      kStudy,
      {{"    - grad_cam\n",
        "    - grad_cam\n    - deep_shap\n    - shapley: {estimator: exact, hidden: background, "
        "superpixels: {grid: {rows: 3}}}\n"},
       {"baselines:\n  random",
        "sweep: {axes: [{key: training.optimizer.rmsprop.learning_rate, values: [1e-3, "
        "1e-5]}]}\nbaselines:\n  random"}});
  const Json as_is = ResultsOn(2, false, false, study), inverted = ResultsOn(2, true, false, study);
  ASSERT_FALSE(inverted.is_discarded());
  EXPECT_EQ(as_is["trials"], inverted["trials"]) << "scores of trials, and which one is taken";
  EXPECT_THAT(as_is["trials"][0].get<std::string>(), HasSubstr("chosen"));
  ASSERT_EQ(BackgroundOf(as_is).size(), 3u);
  for (const Json& part : BackgroundOf(as_is)) EXPECT_FALSE(part.is_null());
  for (size_t k = 0; k < 2; ++k) EXPECT_EQ(BackgroundOf(as_is)[k], BackgroundOf(inverted)[k]) << k;
  // Differences to the explained image are added to it, in float: its own pixels leave their rounding.
  EXPECT_NEAR(BackgroundOf(as_is)[2].get<double>(), BackgroundOf(inverted)[2].get<double>(), 1e-5);
  EXPECT_NE(as_is["test"], inverted["test"]) << "the test pixels differ";
  EXPECT_EQ(as_is["model"], inverted["model"]);
  EXPECT_EQ(as_is["validation"], inverted["validation"]);
  EXPECT_EQ(as_is["evaluated"], inverted["evaluated"]) << "thresholds and temperature";
  ASSERT_EQ(as_is["baselines"].size(), inverted["baselines"].size());
  bool differ = false;
  for (size_t b = 0; b < as_is["baselines"].size(); ++b) {
    const Json& first = as_is["baselines"][b];
    const Json& second = inverted["baselines"][b];
    EXPECT_EQ(first["points"], second["points"]);
    EXPECT_EQ(first["chosen"], second["chosen"]);
    // What thresholds and temperature are fitted to.
    EXPECT_EQ(first["validation"], second["validation"]);
    differ = differ || first["test"] != second["test"];
  }
  EXPECT_TRUE(differ) << "what is not chosen by the test pixels is judged by them";
}

}  // namespace
}  // namespace dermis
