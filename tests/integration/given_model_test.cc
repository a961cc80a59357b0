// Models from files: studies of them, and `dermis explain`.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/image_set.h"
#include "tests/integration/test_cluster.h"
#include "tools/report/overlay.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

std::string Golden(const std::string& name) {
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  return absl::StrCat(source == nullptr ? "." : source, "/tests/parity/blackbox/", name);
}

// A folder of `count` pictures without labels.
std::string Pictures(const TestCluster& cluster, int count) {
  const auto set = ImageSet::OpenFile(TestCluster::Images());
  EXPECT_TRUE(set.ok()) << set.status();
  const fs::path folder = cluster.directory() / "pictures";
  fs::create_directories(folder);
  for (int i = 0; i < count; ++i) {
    const std::string_view pixels = *(*set)->Pixels(static_cast<uint32_t>(i));
    const Raster raster{64, 64, 3, std::vector<uint8_t>(pixels.begin(), pixels.end())};
    std::ofstream(folder / absl::StrCat("lesion", i, ".png"), std::ios::binary) << PngBytes(raster);
  }
  return folder.string();
}

constexpr char kMethods[] =
    "explanation:\n"
    "  images: {per_confusion_cell: {most_confident: 2, least_confident: 0, random: 2}}\n"
    "  methods:\n"
    "    - lime: {samples: 1000, superpixels: {slic: {count: 12}}}\n"
    "    - shapley: {permutations: 40, superpixels: {slic: {count: 12}}}\n";

// A study of the three-class classifier, of which two classes are the images'.
std::string BoxStudy(const TestCluster& cluster, const std::string& file, const std::string& name) {
  fs::copy_file(Golden(file), cluster.directory() / file, fs::copy_options::skip_existing);
  return cluster.Write(
      name + ".yaml",
      absl::StrCat("name: ", name, "\nimages: {size: 16, split: {test: 0.25}}\n",
                   "model: {file: ", file,
                   ", classes: [malignant, other, benign], input: {mean: [.485, .456, .406], "
                   "deviation: [.229, .224, .225]}}\n",
                   kMethods));
}

std::string BitsOf(const CommandResult& run) {
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const std::string bits = LineValue(run.output, "Bits of all results");
  EXPECT_EQ(bits.size(), 64u) << run.output;
  return bits;
}

CommandResult RunStudy(const TestCluster& cluster, const std::string& study) {
  return cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
}

TEST(BlackBoxStudy, HasTheSameBits_ForAnyWorkers_AndWhateverDies) {
  TestCluster one, two;
  ASSERT_EQ(one.Start(1).exit_code, 0);
  const CommandResult quiet = RunStudy(one, BoxStudy(one, "classifier.onnx", "box"));
  EXPECT_THAT(quiet.output, AllOf(HasSubstr("classifier.onnx"), Not(HasSubstr("Trained"))));
  const CommandResult elsewhere = one.Run(
      absl::StrCat("evaluate --model ", Golden("classifier.onnx"),
                   " --size 16 --mean .485 .456 .406 --deviation "
                   ".229 .224 .225 --classes malignant,other,benign --images ",
                   TestCluster::Images(), " -o ", (one.directory() / "elsewhere.html").string()));
  EXPECT_EQ(elsewhere.exit_code, 0) << elsewhere.output;
  EXPECT_THAT(elsewhere.output,
              AllOf(HasSubstr("no chosen threshold, no temperature"), HasSubstr("at 0.500: "),
                    HasSubstr("uncalibrated: Brier score"), Not(HasSubstr("after their"))));
  ASSERT_EQ(two.Start(2).exit_code, 0);
  const std::string study = BoxStudy(two, "classifier.onnx", "box");
  auto run = std::async(std::launch::async, [&] { return RunStudy(two, study); });
  if (two.AwaitDoing("perturb image")) two.Kill9("worker-1");
  EXPECT_EQ(BitsOf(run.get()), BitsOf(quiet));
}

TEST(BlackBoxStudy, OfTorchScript_IsRefusedWithWhatToDo_AndRunsWhereItIsAllowed) {
  TestCluster strict, open;
  ASSERT_EQ(strict.Start(1).exit_code, 0);
  const CommandResult refused = RunStudy(strict, BoxStudy(strict, "classifier.pt", "script"));
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.output, AllOf(HasSubstr("carries code"), HasSubstr("--allow-torchscript"),
                                    HasSubstr("ONNX")));
  ASSERT_EQ(open.Run("cluster start --workers 1 --threads 2 --allow-torchscript").exit_code, 0);
  const CommandResult run = RunStudy(open, BoxStudy(open, "classifier.pt", "script"));
  EXPECT_EQ(BitsOf(run).size(), 64u);
  const std::string report = (open.directory() / "report.html").string();
  EXPECT_EQ(open.Run(absl::StrCat("report script -o ", report)).exit_code, 0);
}

// "12:5f3a..." and the signature behind it, as `dermis audit verify --head` and --signature take
// them; of the line behind its name.
std::pair<std::string, std::string> AuditHeadIn(const fs::path& page) {
  const std::string html = ReadAll(page);
  const size_t name = html.find("audit log at this report");
  std::smatch head;
  EXPECT_NE(name, std::string::npos) << page;
  EXPECT_TRUE(
      name != std::string::npos &&
      std::regex_search(
          html.begin() + static_cast<ptrdiff_t>(name), html.end(), head,
          std::regex("([0-9]+:[0-9a-f]{64}), signature ([^<]{90,}), certificate [0-9A-F:]{95}<")))
      << page;
  return {head.str(1), head.str(2)};
}

TEST(Reports, PrintTheHeadOfTheAuditLog_WithWhichItsLinesAreProven) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  fs::copy_file(Golden("classifier.onnx"), cluster.directory() / "classifier.onnx");
  const std::string box = " --size 16 --mean .485 .456 .406 --deviation .229 .224 .225 --classes malignant,other,benign";
  const std::string model = absl::StrCat(" --model ", (cluster.directory() / "classifier.onnx").string(), box);
  const auto path = [&](const char* name) { return (cluster.directory() / name).string(); };
  EXPECT_EQ(cluster.Run("cancel nobody").exit_code, 1);
  const CommandResult explained =
      cluster.Run(absl::StrCat("explain", model, " --method 'lime: {samples: 64}' --images ",
                               Pictures(cluster, 1), " -o ", path("explained")));
  ASSERT_EQ(explained.exit_code, 0) << explained.output;
  const CommandResult report = cluster.Run(absl::StrCat("report explain-classifier -o ", path("report.html")));
  ASSERT_EQ(report.exit_code, 0) << report.output;
  // What is done later does not matter to the heads.
  EXPECT_EQ(cluster.Run("cancel explain-classifier").exit_code, 0);

  const std::string log = ReadAll(fs::path(cluster.cluster()) / "store/audit.jsonl");
  const std::string copy = cluster.Write("audit.jsonl", log);
  for (const char* page : {"explained/report.html", "report.html"}) {
    const auto [head, signature] = AuditHeadIn(path(page));
    for (const std::string& where : {std::string(), copy}) {
      const std::string verify =
          absl::StrCat("audit verify ", where, " --head ", head, " --signature ");
      const CommandResult verified = cluster.Run(verify + signature);
      EXPECT_EQ(verified.exit_code, 0) << page << verified.output;
      EXPECT_THAT(verified.output, AllOf(HasSubstr("each follows the one before it"),
                                         HasSubstr("it holds what it held at " + head),
                                         HasSubstr("which the coordinator signed")));
      // Of another head, or made up.
      const std::string earlier =
          cluster
              .Run(absl::StrCat("audit verify ", where, " --head 0:", std::string(64, '0'),
                                " --signature ", signature))
              .output;
      EXPECT_THAT(earlier, HasSubstr("is not by the certificate "));
      std::string forged = signature;
      forged[20] = forged[20] == 'A' ? 'B' : 'A';
      const CommandResult refused = cluster.Run(verify + forged);
      EXPECT_EQ(refused.exit_code, 1) << refused.output;
      EXPECT_THAT(refused.output, HasSubstr("is not by the certificate "));
    }
  }
  EXPECT_THAT(cluster.Run("audit verify").output, HasSubstr("signed by the coordinator, certificate "));

  // One byte changed, or lines gone: the copy tells which.
  const std::string head = AuditHeadIn(path("report.html")).first;
  ASSERT_THAT(head, StartsWith("2:"));
  const size_t second = log.find('\n') + 1, third = log.find('\n', second) + 1;
  const auto verify = [&](std::string lines, size_t changed) {
    if (changed < lines.size()) lines[changed] = lines[changed] == 'x' ? 'y' : 'x';
    return Dermis(absl::StrCat("audit verify ", cluster.Write("changed.jsonl", lines), " --head ", head));
  };
  const auto who = [&](size_t line) { return log.find("\"who\":\"", line) + 7; };
  for (const auto& [run, what] : {std::pair(verify(log, who(0)), "line 2 does not follow the line before it"),
                                  std::pair(verify(log, who(second)), "line 3 does not follow the line before it"),
                                  std::pair(verify(log.substr(0, third), who(second)), "none of them is number 2 with the digest"),
                                  std::pair(verify(log.substr(0, second), log.size()), "the log has 1 lines, and none of them is number 2"),
                                  std::pair(verify(log.substr(0, third - 1), log.size()), "line 2 is cut off")}) {
    EXPECT_EQ(run.exit_code, 1) << what;
    EXPECT_THAT(run.output, HasSubstr(what));
  }
  EXPECT_EQ(verify(log, who(third)).exit_code, 0) << "later than the report: only a later head can tell";
}

// "Explanation: at most 4 images, 20 tasks, ..." of a preview.
std::pair<uint64_t, uint64_t> ImagesAndTasks(const std::string& preview) {
  std::smatch found;
  if (!std::regex_search(preview, found, std::regex("Explanation: at most ([0-9]+) images, ([0-9]+) tasks"))) {
    ADD_FAILURE() << preview;
    return {};
  }
  return {std::stoull(found[1].str()), std::stoull(found[2].str())};
}

// Of model.safetensors in the cluster's folder.
void ExpectTheMarginsFitBesideTheProbabilitys(const TestCluster& cluster) {
  const auto study = [&](const std::string& output) {
    return cluster.Write(
        output + ".yaml",
        absl::StrCat("name: ", output, "\nseed: 3\nimages: {split: {test: 0.25, validation: 0.2}}\n",
                     "model: {file: model.safetensors}\nexplanation: {output: ", output,
                     ", images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}, methods: "
                     "[lime: {samples: 300, hidden: training_mean, superpixels: {slic: {count: 12}}}], checks: "
                     "{fidelity: false}}\n"));
  };
  std::map<std::string, Json> explained;
  for (const std::string output : {"probability", "margin"}) {
    const CommandResult preview = cluster.Run(
        absl::StrCat("run ", study(output), " --images ", TestCluster::Images(), " --preview"));
    const CommandResult run = RunStudy(cluster, study(output));
    ASSERT_EQ(run.exit_code, 0) << run.output;
    const Json results = Json::parse(cluster.Run("results " + output + " -o json").output, nullptr, false);
    ASSERT_FALSE(results.is_discarded());
    explained[output] = results["explained"];
    // As many as the preview said; it cannot know which cells of the confusion matrix are empty.
    const auto [images, tasks] = ImagesAndTasks(preview.output);
    const Json status = Json::parse(cluster.Run(absl::StrCat("status ", output, " -o json")).output, nullptr, false);
    ASSERT_FALSE(status.is_discarded());
    uint64_t ran = 0;
    for (const Json& stage : status["studies"][0]["stages"]) {
      if (stage["stage"] == "explanation") ran = stage["computed"].get<uint64_t>() + stage["found"].get<uint64_t>();
    }
    EXPECT_EQ(ran * images, tasks * explained[output].size()) << output;
    std::map<std::string, double> margins;
    for (const Json& image : results["test"]) {
      margins[image["image"]] = image["logits"][1].get<double>() - image["logits"][0].get<double>();
    }
    for (const Json& image : explained[output]) {
      const Json& lime = image["attributions"][0];
      const Json& margin = output == "margin" ? lime["result"] : lime["margin"];
      EXPECT_NEAR(margin["fit"]["full"].get<double>(), margins.at(image["image"]), 1e-4);
      EXPECT_EQ(lime["margin"].is_null(), output == "margin");
    }
  }
  const Json &probability = explained["probability"], &margin = explained["margin"];
  ASSERT_GE(probability.size(), 2u);
  ASSERT_EQ(probability.size(), margin.size());
  for (size_t i = 0; i < margin.size(); ++i) {
    EXPECT_EQ(probability[i]["image"], margin[i]["image"]);
    const Json &both = probability[i]["attributions"][0], &alone = margin[i]["attributions"][0];
    EXPECT_EQ(both["margin"], alone["result"]) << "to the last bit, of the same masks";
    EXPECT_NE(both["result"]["fit"]["values"], both["margin"]["fit"]["values"]);
    EXPECT_NEAR(both["result"]["fit"]["full"].get<double>(),
                1 / (1 + std::exp(-both["margin"]["fit"]["full"].get<double>())), 1e-6);
  }
}

TEST(GivenModel, ThatAStudySaved_GivesTheLogitsOfThatStudy_AndOfAProbabilityTheMarginsFitToo) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1, 2).exit_code, 0);
  const std::string study = cluster.Write("t.yaml", SmallStudy("trained"));
  EXPECT_EQ(RunStudy(cluster, study).exit_code, 0);
  const std::string model = (cluster.directory() / "model.safetensors").string();
  const auto scores = [&](const std::string& name) {
    const std::string path = (cluster.directory() / (name + ".csv")).string();
    const CommandResult results = cluster.Run(absl::StrCat(
        "results ", name, " --scores ", path, name == "trained" ? " --model " + model : ""));
    EXPECT_EQ(results.exit_code, 0) << results.output;
    std::ifstream in(path);
    return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  };
  const std::string before = scores("trained");
  const std::string given =
      cluster.Write("g.yaml",
                    "name: given\nseed: 3\nimages: {split: {test: 0.25, validation: 0.2}}\n"
                    "model: {file: model.safetensors}\nexplanation: {images: {per_confusion_cell: "
                    "{most_confident: 1, "
                    "least_confident: 0, random: 1}}, methods: [grad_cam], checks: {fidelity: false}}\n");
  const CommandResult run = RunStudy(cluster, given);
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_EQ(scores("given"), before);
  // Every evaluation and map has the address that it had in the first study.
  EXPECT_THAT(run.output, HasSubstr("Nothing was computed"));
  ExpectTheMarginsFitBesideTheProbabilitys(cluster);
}

// Of each image that DeepSHAP explained, over what the issue measures it by.
std::vector<double> RelativeResidualsOfDeepShap(const Json& results) {
  std::vector<double> residuals;
  for (const Json& image : results["explained"]) {
    for (const Json& attribution : image["attributions"]) {
      if (!attribution["method"].contains("deep_shap")) continue;
      const Json& map = attribution["result"]["gradient"];
      double sum = 0, magnitude = 0;
      for (const Json& value : map["values"]) {
        sum += value.get<double>();
        magnitude += std::abs(value.get<double>());
      }
      const double change = map["full"].get<double>() - map["reference"].get<double>();
      EXPECT_NEAR(map["additivity_residual"].get<double>(), change - sum, 1e-6 * (1 + magnitude));
      EXPECT_GT(magnitude, 0);
      residuals.push_back(std::abs(change - sum) / std::max(std::abs(change), 0.01 * magnitude));
    }
  }
  return residuals;
}

// What looks inside: maps and gradients, of a network that a study saved.
TEST(Explain, OfASafetensorsModel_ByWhatLooksInside_AndByDeepShapWhereThereIsABackground) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1, 2).exit_code, 0);
  const std::string model = (cluster.directory() / "model.safetensors").string();
  EXPECT_EQ(RunStudy(cluster,
                     cluster.Write(
                         "t.yaml",
                         "name: trained\nimages: {size: 16, split: {test: 0.25, validation: 0.2}}\n"
                         "training: {epochs: 1, logical_shards: 2, batch_size: 16}\n"))
                .exit_code,
            0);
  EXPECT_EQ(cluster.Run("results trained --model " + model).exit_code, 0);
  const fs::path out = cluster.directory() / "out";
  const std::string explain =
      absl::StrCat("explain --model ", model, " --display 64 --method hires_cam --images ",
                   Pictures(cluster, 2), " -o json --out ", out.string());
  const CommandResult refused = cluster.Run(explain + " --method deep_shap");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.output, HasSubstr("integrated_gradients and smooth_grad need none"));
  EXPECT_FALSE(fs::exists(out));
  const CommandResult run =
      cluster.Run(explain + " --method 'smooth_grad: {samples: 5}' --method integrated_gradients");
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr(R"("images":2,)"));
  for (const char* file :
       {"overlays/lesion0.png.hires_cam.pool3.png", "overlays/lesion1.png.smooth_grad.png",
        "overlays/lesion0.png.integrated_gradients.png"}) {
    EXPECT_TRUE(fs::exists(out / file)) << file;
  }
  const std::string tensors = ReadAll(out / "attributions.safetensors");
  EXPECT_THAT(tensors, HasSubstr("lesion0.png/smooth_grad/standard_errors"));
  EXPECT_THAT(tensors, Not(HasSubstr("integrated_gradients/standard_errors")))
      << "nothing is drawn";
  EXPECT_THAT(ReadAll(out / "report.html"), HasSubstr("standard error of the sum"));

  const std::string study = cluster.Write(
      "d.yaml",
      "name: deep\nseed: 3\nimages: {split: {test: 0.25}}\nmodel: {file: model.safetensors}\n"
      "explanation: {images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: "
      "0}}, "
      "background: {per_class: 4}, methods: [deep_shap, {expected_gradients: {samples: 20}}, "
      "grad_cam]}\n");
  EXPECT_EQ(RunStudy(cluster, study).exit_code, 0);
  const CommandResult results = cluster.Run("results deep -o json");
  EXPECT_EQ(results.exit_code, 0);
  const Json json = Json::parse(results.output, nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  const std::vector<double> residuals = RelativeResidualsOfDeepShap(json);
  EXPECT_THAT(residuals, AllOf(SizeIs(json["explained"].size()), SizeIs(Ge(2u)), Each(Le(1e-5)))) << "DeepSHAP adds up";
  EXPECT_THAT(results.output, ContainsRegex("\"background\":\"[A-Za-z0-9+/=]{44}\""));
  EXPECT_THAT(results.output, HasSubstr("\"sum_standard_error\":"));
}

// With the stem whose pool overlaps: where shap and captum do not add up. resnet50 is of
// bottlenecks.
TEST(Explain, OfTrainedResNets_DeepShapAddsUp_AndSoDoesTheExactMap) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1, 2).exit_code, 0);
  for (const std::string network : {"resnet18", "resnet50"}) {
    SCOPED_TRACE(network);
    const CommandResult run = RunStudy(
        cluster,
        cluster.Write(
            network + ".yaml",
            absl::StrCat("name: ", network,
                         "\nseed: 3\nimages: {size: 64, split: {test: 0.6, validation: 0.2}}\n"
                         "training: {model: ",
                         network,
                         ", stem: imagenet, epochs: 2, logical_shards: 2, batch_size: 16}\n"
                         "explanation:\n  background: {per_class: 2}\n"
                         "  images: {per_confusion_cell: {most_confident: 1, "
                         "least_confident: 0, random: 1}}\n"
                         "  methods: [deep_shap, cam, layer_cam]\n  checks: {fidelity: false}\n")));
    ASSERT_EQ(run.exit_code, 0) << run.output;
    const CommandResult results = cluster.Run("results " + network + " -o json");
    const Json json = Json::parse(results.output, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << results.output;
    EXPECT_THAT(RelativeResidualsOfDeepShap(json),
                AllOf(SizeIs(json["explained"].size()), SizeIs(Ge(2u)), Each(Le(1e-4))));
    for (const Json& image : json["explained"]) {
      ASSERT_EQ(image["attributions"].size(), 3u);
      for (const Json& attribution : image["attributions"]) {
        if (!attribution["result"].contains("activations")) continue;
        const Json& maps = attribution["result"]["activations"];
        const bool cam = attribution["method"].contains("cam");
        ASSERT_EQ(maps["layers"].size(), cam ? 1u : 5u) << attribution["method"];
        const Json& last = maps["layers"].back();
        EXPECT_EQ(last["layer"], "layer4");
        ASSERT_EQ(last.contains("offset"), cam);
        if (!cam) continue;
        double sum = last["offset"], magnitude = 0;
        for (const Json& value : last["cam"]) {
          sum += value.get<double>();
          magnitude += std::abs(value.get<double>());
        }
        EXPECT_GT(magnitude, 0);
        EXPECT_NEAR(sum, maps["full"].get<double>(), 1e-5 * (1 + magnitude));
      }
    }
  }
}

TEST(Explain, OfOneFolder_LeavesPicturesNumbersAndAReport_AndNothingRunning) {
  TestCluster place;
  const std::string out = (place.directory() / "out").string();
  const CommandResult run =
      Dermis(absl::StrCat("explain --model ", Golden("classifier.onnx"),
                          " --size 16 --display 64 --classes benign,nevus,malignant --target nevus",
                          " --mean .485 .456 .406 --deviation .229 .224 .225 --method 'lime: "
                          "{samples: 300}' --method shapley --images ",
                          Pictures(place, 3), " -o ", out));
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("3 images explained, 6 overlays"));
  for (const char* file :
       {"report.html", "attributions.csv", "attributions.safetensors", "scores.csv",
        "overlays/lesion0.png.lime.png", "overlays/lesion2.png.shapley.png"}) {
    EXPECT_TRUE(fs::exists(fs::path(out) / file)) << file;
  }
  std::ifstream in(fs::path(out) / "scores.csv");
  std::string header;
  std::getline(in, header);
  EXPECT_THAT(header, HasSubstr("logit_benign,logit_malignant,logit_nevus"))
      << "the target is last";

  const CommandResult again =
      Dermis(absl::StrCat("explain --model ", Golden("classifier.onnx"), " --images ",
                          Pictures(place, 3), " -o json --out ", out));
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.output, HasSubstr("is there already"));
}

std::string ExplainError(const TestCluster& place, const std::string& options) {
  const std::string out = (place.directory() / "never").string();
  const CommandResult run = Dermis(absl::StrCat("explain ", options, " -o ", out));
  EXPECT_TRUE(run.exit_code == 1 || run.exit_code == 3) << run.exit_code << ": " << run.output;
  EXPECT_FALSE(fs::exists(out));
  return run.output;
}

TEST(Explain, SaysWhatIsWrong) {
  TestCluster place;
  const std::string images = absl::StrCat(" --images ", Pictures(place, 1));
  const std::string onnx =
      absl::StrCat("--model ", Golden("classifier.onnx"), " --size 16 --display 64");
  EXPECT_THAT(ExplainError(place, "--model nowhere.onnx" + images),
              HasSubstr("no model file nowhere.onnx"));
  EXPECT_THAT(ExplainError(place, onnx + " --images nowhere"),
              HasSubstr("no folder or picture nowhere"));
  EXPECT_THAT(ExplainError(place, onnx + images), HasSubstr("--classes benign,malignant"));
  EXPECT_THAT(ExplainError(place, onnx + " --classes a,b,c --method shaply" + images),
              HasSubstr("did you mean 'shapley'?"));
  EXPECT_THAT(ExplainError(place, onnx + " --classes a,b,c --method grad_cam" + images),
              HasSubstr("looks inside"));
  EXPECT_THAT(ExplainError(place, onnx + " --classes a,b,c --target d" + images),
              HasSubstr("there are a, b, c"));
  EXPECT_THAT(ExplainError(place, absl::StrCat("--model ", Golden("classifier.pt"),
                                               " --classes a,b,c", images)),
              HasSubstr("--allow-torchscript"));
  EXPECT_THAT(ExplainError(place, absl::StrCat("--model ", Golden("classifier.onnx"),
                                               " --size 24 --display 64 --classes a,b,c", images)),
              HasSubstr("1 x 3 x 24 x 24"));
  EXPECT_THAT(ExplainError(place, onnx + " --classes a,b" + images), HasSubstr("3 outputs"));
}

TEST(Explain, WhenInterrupted_LeavesNothingBehind) {
  TestCluster place;
  const fs::path scratch = place.directory() / "scratch";
  fs::create_directory(scratch);
  const std::string out = (place.directory() / "out").string();
  // Ctrl-C reaches `timeout` and what it runs; the study would take much longer.
  const char* build = std::getenv("DERMIS_BUILD_DIR");
  const std::string command = absl::StrCat(
      "TMPDIR=", scratch.string(), " timeout --foreground -s INT 8 ",
      build == nullptr ? "build" : build, "/bin/dermis explain --model ", Golden("classifier.onnx"),
      " --size 16 --display 64 --classes a,b,c --method 'shapley: {permutations: 100000}' "
      "--images ",
      Pictures(place, 4), " -o ", out, " > ", (place.directory() / "log").string(), " 2>&1");
  const int status = std::system(command.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 124) << "timeout says that it had to interrupt";
  EXPECT_EQ(ProcessesOf(scratch.string()), 0);
  EXPECT_TRUE(fs::is_empty(scratch));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(out + ".part"));
}

TEST(Explain, WhenKilled_LeavesNoProcessBehind) {
  TestCluster place;
  const fs::path scratch = place.directory() / "scratch";
  fs::create_directory(scratch);
  const char* build = std::getenv("DERMIS_BUILD_DIR");
  const std::string command = absl::StrCat(
      "TMPDIR=", scratch.string(), " timeout --foreground -s KILL 8 ",
      build == nullptr ? "build" : build, "/bin/dermis explain --model ", Golden("classifier.onnx"),
      " --size 16 --display 64 --classes a,b,c --method 'shapley: {permutations: 100000}' --images ",
      Pictures(place, 4), " -o ", (place.directory() / "out").string(), " > ",
      (place.directory() / "log").string(), " 2>&1");
  (void)std::system(command.c_str());
  EXPECT_FALSE(fs::is_empty(scratch)) << "it was killed before it started anything";
  // The worker tries to hand back what it has: the coordinator may be gone before.
  int left = 1;
  for (int i = 0; i < 500 && left > 0; ++i) {
    left = ProcessesOf(scratch.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(left, 0);
}

}  // namespace
}  // namespace dermis
