// "Explain this image" as people use it: the command line and the dashboard, on a real cluster.
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "common/certificates.h"
#include "common/image_set.h"
#include "common/philox.h"
#include "common/tls.h"
#include "dermis/v1/join.grpc.pb.h"
#include "dermis/v1/question.grpc.pb.h"
#include "tests/integration/test_cluster.h"
#include "tools/report/overlay.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr int kSide = 64;  // Of TestCluster::Images().

class ExplainPhotoTest : public ::testing::Test {
 protected:
  // One cluster for all: it has a study that is done, and nothing that is asked changes it.
  static void SetUpTestSuite() {
    cluster_ = new TestCluster();
    ASSERT_EQ(cluster_->Start(2).exit_code, 0);
    const CommandResult run =
        cluster_->Run(absl::StrCat("run ", cluster_->Write("s.yaml", SmallStudy("s", "4")),
                                   " --images ", TestCluster::Images()));
    ASSERT_EQ(run.exit_code, 0) << run.output;
    images_ = ImageSet::OpenFile(TestCluster::Images())->release();
  }
  static void TearDownTestSuite() {
    delete images_;
    delete cluster_;
  }

  static std::string Photo(const std::string& name, std::string_view pixels) {
    return cluster_->Write(
        name, PngBytes({kSide, kSide, 3, std::vector<uint8_t>(pixels.begin(), pixels.end())}));
  }
  static std::string Noise() {
    std::string pixels;
    for (uint32_t i = 0; pixels.size() < kSide * kSide * 3; ++i) {
      for (const uint32_t word : PhiloxBlock(77, Purpose::kChoice, i, 0, 0)) {
        for (int b = 0; b < 4; ++b) pixels.push_back(static_cast<char>(word >> (8 * b)));
      }
    }
    return pixels.substr(0, kSide * kSide * 3);
  }
  // Standard output alone.
  static CommandResult Out(const std::string& arguments) {
    return Dermis(absl::StrCat(arguments, " --cluster ", cluster_->cluster(), " 2>/dev/null #"));
  }
  static Json Ask(const std::string& photo, const std::string& more = "") {
    const CommandResult asked = Out(absl::StrCat("explain --study s ", photo, " -o json ", more));
    EXPECT_EQ(asked.exit_code, 0) << asked.output;
    return Json::parse(asked.output, nullptr, false);
  }
  // All three methods of an answer, against those of an image that a study explained. A study that
  // has no training images hides by another mean: `other_mean`, of what does that f(x) alone.
  static void ExpectSameNumbers(const Json& answer, const Json& explained,
                                bool other_mean = false) {
    int compared = 0;
    for (const Json& method : answer.at("methods")) {
      for (const Json& known : explained.at("attributions")) {
        if (!known.at("method").contains(std::string(method.at("name")))) continue;
        if (other_mean && method.at("name") == "shapley") {
          EXPECT_EQ(method.at("result").at("fit").at("full"),
                    known.at("result").at("fit").at("full"));
        } else {
          EXPECT_EQ(method.at("result"), known.at("result")) << method.at("name");
        }
        EXPECT_EQ(method.at("method"), known.at("method"));
        ++compared;
      }
    }
    EXPECT_EQ(compared, 3);
  }
  // The largest value of each fit of an answer's methods or an image's attributions, as a file
  // would hold it.
  static std::vector<std::string> FittedBytes(const Json& methods) {
    std::vector<std::string> all;
    for (const Json& method : methods) {
      const Json& result = method.at("result");
      if (!result.contains("fit")) continue;
      double largest = 0;
      for (const double value : result.at("fit").at("values")) {
        if (std::abs(value) > std::abs(largest)) largest = value;
      }
      std::string bytes(sizeof largest, '\0');
      std::memcpy(bytes.data(), &largest, sizeof largest);
      all.push_back(bytes);
    }
    EXPECT_EQ(all.size(), 2u) << methods;  // LIME and Shapley values.
    return all;
  }
  // Files of the coordinator's "store", or the workers' "cache", that have these bytes.
  static int FilesWith(const std::string& bytes, const std::string& folder = "store") {
    int files = 0;
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(cluster_->cluster()) / folder)) {
      files += entry.is_regular_file() && ReadAll(entry.path()).find(bytes) != std::string::npos;
    }
    return files;
  }
  // curl of the dashboard, with `more` arguments: the status, then the body.
  static CommandResult Curl(const std::string& path, const std::string& more) {
    const std::string store = cluster_->cluster() + "/store";
    return Shell(absl::StrCat("curl -sk -o - -w '\n%{http_code}' ", more, " \"$(cat ", store,
                              "/dashboard)", path, "\""));
  }
  static std::string Bearer(const std::string& token) {
    return absl::StrCat("-H \"Authorization: Bearer $(cat ", cluster_->cluster(), "/store/", token,
                        ")\"");
  }

  static TestCluster* cluster_;
  static ImageSet* images_;
};
TestCluster* ExplainPhotoTest::cluster_ = nullptr;
ImageSet* ExplainPhotoTest::images_ = nullptr;

TEST_F(ExplainPhotoTest, ImageOfTheSet_GetsTheVeryNumbersThatItsStudyHasForIt) {
  const CommandResult stored = Out("results s -o json");
  ASSERT_EQ(stored.exit_code, 0) << stored.output;
  const Json results = Json::parse(stored.output);
  const Json& explained = results.at("explained").at(0);
  const std::string name = explained.at("image");
  uint32_t index = 0;
  while (images_->manifest().images(static_cast<int>(index)).name() != name) ++index;
  const std::string folder = (cluster_->directory() / "explained").string();
  const Json answer = Ask(Photo("known.png", *images_->Pixels(index)), "--out " + folder);
  ASSERT_EQ(answer.at("methods").size(), 3u) << answer;
  ExpectSameNumbers(answer, explained);
  EXPECT_FALSE(answer.at("unlike_training_images")) << answer.at("familiarity");
  EXPECT_EQ(answer.at("probabilities").size(), 2u);
  EXPECT_TRUE(answer.at("temperature").is_number());
  EXPECT_EQ(answer.at("familiarity").at("nearest").size(), 5u);
  EXPECT_EQ(answer.at("familiarity").at("validation_images").get<int>(), 30);
  EXPECT_TRUE(fs::exists(folder + "/overlays/known.png.lime.png"));
  EXPECT_TRUE(fs::exists(folder + "/overlays/known.png.shapley.png"));
  EXPECT_TRUE(fs::exists(folder + "/overlays/known.png.grad_cam.conv1.png"));
}

TEST_F(ExplainPhotoTest, Noise_IsUnlikeTheTrainingImages_AndLeavesNothingAnywhere) {
  const std::string noise = Noise();
  const CommandResult asked = Out("explain --study s " + Photo("noise.png", noise));
  ASSERT_EQ(asked.exit_code, 0) << asked.output;
  EXPECT_THAT(asked.output, AllOf(HasSubstr("unlike the training images"), Not(HasSubstr(" %\n")),
                                  HasSubstr("Research, not diagnosis")));
  // Neither the image as it is, nor anything that names it, nor what was computed of it (what is
  // kept is found by the same bytes, see below).
  std::vector<std::string> traces = FittedBytes(Ask(Photo("noise.png", noise)).at("methods"));
  traces.insert(traces.end(), {noise.substr(3000, 40), Sha256Of(noise).bytes(),
                               Sha256Of(noise).hex(), "noise.png"});
  fs::remove(cluster_->directory() / "noise.png");
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(cluster_->directory())) {
    if (!entry.is_regular_file()) continue;
    ++files;
    const std::string bytes = ReadAll(entry.path());
    for (size_t i = 0; i < traces.size(); ++i) {
      EXPECT_EQ(bytes.find(traces[i]), std::string::npos) << entry.path() << " has trace " << i;
    }
  }
  EXPECT_GT(files, 10u);
}

TEST_F(ExplainPhotoTest, KeptImage_IsAStudyWithTheSameNumbersButByTrainingMean_UntilItIsDeleted) {
  std::string pixels(*images_->Pixels(3));  // Of no set, but like one of them.
  for (char& value : pixels) value = static_cast<char>(value ^ 1);
  const std::string photo = Photo("mine.png", pixels), piece = pixels.substr(3000, 40);
  const Json answer = Ask(photo, "--keep mine");
  const CommandResult stored = Out("results mine -o json");
  ASSERT_EQ(stored.exit_code, 0) << stored.output;
  const Json explained = Json::parse(stored.output).at("explained");
  ASSERT_EQ(explained.size(), 1u);
  EXPECT_EQ(explained.at(0).at("image"), "mine.png");
  ExpectSameNumbers(answer, explained.at(0), true);
  std::vector<std::string> traces = FittedBytes(explained.at(0).at("attributions"));
  traces.insert(traces.end(), {piece, "mine.png"});
  for (size_t i = 0; i < traces.size(); ++i) {
    EXPECT_GT(FilesWith(traces[i]), 0) << i;
    EXPECT_GT(FilesWith(traces[i], "cache"), 0) << i;
  }
  // The name is taken: nothing is asked, nothing is changed.
  const CommandResult again = cluster_->Run("explain --study s " + photo + " --keep mine");
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.output,
              AllOf(HasSubstr("there is a study mine already"), Not(HasSubstr("by study"))));
  const CommandResult deleted = cluster_->Run("delete mine --yes");
  EXPECT_EQ(deleted.exit_code, 0) << deleted.output;
  // Blobs go some at a time, and workers are told: both soon.
  for (const char* folder : {"store", "cache"}) {
    for (size_t i = 0; i < traces.size(); ++i) {
      for (int tries = 0; tries < 100 && FilesWith(traces[i], folder) > 0; ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      EXPECT_EQ(FilesWith(traces[i], folder), 0) << folder << " has trace " << i;
    }
  }
}

TEST_F(ExplainPhotoTest, BadQuestions_AreRefusedWithWhatToDo) {
  const std::string photo = Photo("a.png", *images_->Pixels(0));
  const auto fails = [&](const std::string& arguments, const std::string& what, int code = 1) {
    const CommandResult asked = cluster_->Run("explain " + arguments);
    EXPECT_EQ(asked.exit_code, code) << asked.output;
    EXPECT_THAT(asked.output, HasSubstr(what)) << arguments;
  };
  fails("--study s " + cluster_->Write("a.txt", "no picture"), "neither a JPEG nor a PNG");
  std::string cut = ReadAll(photo);
  cut.resize(cut.size() / 2);
  fails("--study s " + cluster_->Write("cut.png", cut), "damaged PNG");
  fails("--study s nowhere.png", "no picture nowhere.png");
  fails("--study sss " + photo, "no study sss");
  fails("--study s", "picture is required", 2);
  fails("--study s " + photo + " --model m.safetensors", "excludes", 2);
  fails("--study s " + photo + " -o yaml", "text or json", 2);
  for (const char* idle : {"--method lime", "--target x", "--classes a,b", "--size 3", "--seed 2",
                           "--workers 2", "--output logit"}) {
    fails(absl::StrCat("--study s ", photo, " ", idle), "excludes", 2);
  }
  fails("--model m.safetensors --images x --keep y -o z", "requires", 2);
  fails("--model m.safetensors --images x -o -", "- is not possible here", 2);
  fails("--study s " + photo + " --keep ../x", "--keep: ");
  fails("", "--model is required", 2);
  fails(absl::StrCat("--study s ", photo, " --out ", cluster_->directory().string()),
        "is there already");
  const CommandResult run = cluster_->Run(
      absl::StrCat("run --detach ", cluster_->Write("long.yaml", SmallStudy("long", "100000")),
                   " --images ", TestCluster::Images()));
  ASSERT_EQ(run.exit_code, 0) << run.output;
  fails("--study long " + photo, "has no model yet");
  // And while all workers train, a question is answered: a gang makes room.
  ASSERT_TRUE(cluster_->AwaitDoing("long: trains"));
  EXPECT_EQ(Ask(photo).at("methods").size(), 3u);
  EXPECT_EQ(cluster_->Run("cancel long").exit_code, 0);
}

TEST_F(ExplainPhotoTest, Page_AsksForAUsersTokenInTheHeader_AndDecodesNothingItself) {
  const std::string photo = Photo("b.png", *images_->Pixels(1));
  const std::string post = absl::StrCat("--data-binary @", photo, " ");
  const auto status = [](const CommandResult& result) {
    return result.output.substr(result.output.rfind('\n') + 1);
  };
  EXPECT_EQ(status(Curl("/api/studies/s/questions", post)), "401");
  EXPECT_EQ(status(Curl("/api/studies/s/questions", post + Bearer("dashboard-token"))), "401");
  // A cookie is what another page could make the browser send.
  const std::string jar = (cluster_->directory() / "jar").string();
  EXPECT_EQ(status(Curl("/api/session", absl::StrCat("-c ", jar, " --data-binary @",
                                                     cluster_->cluster(), "/store/user-token"))),
            "204");
  EXPECT_EQ(status(Curl("/api/cluster", "-b " + jar)), "200");
  EXPECT_EQ(status(Curl("/api/studies/s/questions", post + "-b " + jar)), "401");

  const std::string user = Bearer("user-token") + " ";
  EXPECT_EQ(status(Curl("/api/studies/sss/questions", post + user)), "404");
  const CommandResult text =
      Curl("/api/studies/s/questions",
           absl::StrCat("--data-binary @", cluster_->Write("b.txt", "no picture"), " ", user));
  EXPECT_EQ(status(text), "400");
  EXPECT_THAT(text.output, HasSubstr("neither a JPEG nor a PNG"));
  EXPECT_EQ(
      status(Curl("/api/studies/s/questions",
                  absl::StrCat("--data-binary @",
                               cluster_->Write("big.png", std::string(21 << 20, 'x')), " ", user))),
      "413");
  // A picture of 90 megapixels, and one that says it has more.
  std::string bomb = ReadAll(photo);
  bomb.replace(16, 8, std::string("\0\1\0\0\0\1\0\0", 8));
  EXPECT_EQ(
      status(Curl("/api/studies/s/questions",
                  absl::StrCat("--data-binary @", cluster_->Write("bomb.png", bomb), " ", user))),
      "400");

  const CommandResult asked = Curl("/api/studies/s/questions", post + user);
  ASSERT_EQ(status(asked), "202") << asked.output;
  const std::string question =
      Json::parse(asked.output.substr(0, asked.output.rfind('\n'))).at("question");
  EXPECT_EQ(status(Curl("/api/questions/" + question, "")), "401");
  Json answer = Json::object();
  for (int i = 0; i < 300 && !answer.value("ended", false); ++i) {
    const CommandResult read = Curl("/api/questions/" + question, user);
    ASSERT_EQ(status(read), "200") << read.output;
    answer = Json::parse(read.output.substr(0, read.output.rfind('\n')));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(answer.at("error"), "");
  std::vector<std::string> kinds;
  for (const Json& update : answer.at("updates")) kinds.push_back(update.at("kind"));
  EXPECT_THAT(kinds, ::testing::UnorderedElementsAre("start", "prediction", "confidence", "method",
                                                     "method", "method"));
  EXPECT_EQ(kinds[0], "start");
  EXPECT_EQ(status(Curl("/api/questions/" + question + "/image", user + "--output /dev/null"))
                .substr(0, 3),
            "200");
  EXPECT_EQ(status(Curl("/api/questions/" + question, user + "-X DELETE")), "204");
  EXPECT_EQ(status(Curl("/api/questions/" + question, user)), "404");
}

TEST_F(ExplainPhotoTest, RevokedCertificate_EndsTheQuestion_AlsoWhileNothingIsAnswered) {
  const std::string certs = cluster_->cluster() + "/certs";
  const auto authority = CertificateAuthority::Load(certs);
  ASSERT_TRUE(authority.ok()) << authority.status();
  Identity guest = *LoadIdentity(certs, "user");
  const std::string serial = *NewSerial();
  guest.certificate = *(*authority)->Sign(*MakeSigningRequest(guest.key),
                                          {"user", "guest", serial, {absl::Now() - absl::Hours(1), absl::Now() + absl::Hours(1)}});
  std::string address = ReadAll(cluster_->cluster() + "/store/address");
  absl::StripAsciiWhitespace(&address);
  for (const char* worker : {"worker-0", "worker-1"}) cluster_->Signal(worker, SIGSTOP);

  const auto questions = v1::Questions::NewStub(MakeChannel(address, ClientCredentials(guest)));
  grpc::ClientContext context;
  v1::ExplainRequest request;
  request.set_study("s");
  request.set_pixels(Noise());
  const auto asked = questions->Explain(&context, request);
  v1::ExplainUpdate update;
  ASSERT_TRUE(asked->Read(&update));  // It has begun.
  const auto joins = v1::Join::NewStub(MakeChannel(address, ClientCredentials(*LoadIdentity(certs, "admin"))));
  grpc::ClientContext revoking;
  v1::RevokeRequest revoke;
  revoke.set_certificate(serial);
  v1::RevokeResponse revoked;
  ASSERT_TRUE(joins->Revoke(&revoking, revoke, &revoked).ok());
  while (asked->Read(&update)) {
  }
  const grpc::Status end = asked->Finish();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::UNAUTHENTICATED) << end.error_message();
  EXPECT_THAT(end.error_message(), HasSubstr("revoked"));
  for (const char* worker : {"worker-0", "worker-1"}) cluster_->Signal(worker, SIGCONT);
}

TEST_F(ExplainPhotoTest, CoordinatorThatDies_EndsTheQuestion_WithWhatToDo) {
  const std::string photo = Photo("c.png", *images_->Pixels(2));
  // Nobody is told that a question has come: on a slow machine it has not after a second.
  std::string log;
  for (const int seconds : {1, 5, 25}) {
    ASSERT_EQ(cluster_->Start(2).exit_code, 0);
    // Workers that stand still, so that it is not answered before.
    for (const char* worker : {"worker-0", "worker-1"}) cluster_->Signal(worker, SIGSTOP);
    Background asking(
        {Program("dermis"), "explain", "--study", "s", photo, "--cluster", cluster_->cluster()},
        (cluster_->directory() / "asking.log").string());
    std::this_thread::sleep_for(std::chrono::seconds(seconds));
    cluster_->Kill9("coordinator");
    EXPECT_EQ(asking.Ended(), 1);
    for (const char* worker : {"worker-0", "worker-1"}) cluster_->Signal(worker, SIGCONT);
    log = asking.Log();
    if (log.find("ask again") != std::string::npos) break;
  }
  EXPECT_THAT(log, HasSubstr("ask again"));
}

}  // namespace
}  // namespace dermis
