// Clear words for what goes wrong between real processes: another version, a full disk, foreign certificates.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Address(const TestCluster& cluster) {
  std::string address;
  std::ifstream(cluster.cluster() + "/store/address") >> address;
  return address;
}

TEST(WorkerErrors, AnotherVersionIsRefused_WithWhatToDo_AndNotStartedAgain) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  for (const char* supervise : {"", " --supervise"}) {
    const CommandResult worker = Shell(absl::StrCat(
        "timeout 60 ", Program("dermis-worker"), " --coordinator ", Address(cluster), " --certs ",
        cluster.cluster(), "/certs --cache ", cluster.cluster(), "/cache/odd --name odd --threads 1",
        " --claim-version 0.0.1-other", supervise, " 2>&1"));
    EXPECT_EQ(worker.exit_code, 78) << worker.output;
    EXPECT_THAT(worker.output, AllOf(HasSubstr("0.0.1-other"), HasSubstr("refuses")));
  }
  EXPECT_THAT(cluster.Log("coordinator"), HasSubstr("0.0.1-other"));
}

TEST(WorkerErrors, AFullDiskRefusesStudies_SaysSo_AndLosesNothing) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  const std::string images = " --images " + TestCluster::Images();
  const CommandResult first = cluster.Run("run " + cluster.Write("s.yaml", SmallStudy("first")) + images);
  ASSERT_EQ(first.exit_code, 0) << first.output;
  const std::string before = LineValue(first.output, "Bits of all results");
  ASSERT_EQ(cluster.Stop().exit_code, 0);
  // No disk has so much to spare: the reserve is never met.
  const Background coordinator({Program("dermis-coordinator"), "--store", cluster.cluster() + "/store",
                                "--certs", cluster.cluster() + "/certs", "--listen", "127.0.0.1:0",
                                "--reserve-mib", "1000000000"},
                               (cluster.directory() / "full.log").string());
  for (int i = 0; i < 600 && Address(cluster).empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  // Its images are there already: the study itself is refused.
  const CommandResult second = cluster.Run("run " + cluster.Write("t.yaml", SmallStudy("second", "4")) + images, 60);
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.output, AllOf(HasSubstr("second"), HasSubstr("disk")));
  const CommandResult results = cluster.Run("results first");
  EXPECT_EQ(LineValue(results.output, "Bits of all results"), before) << results.output;
  EXPECT_THAT(cluster.Run("cluster status").output, HasSubstr("too little"));
}

TEST(WorkerErrors, TheCertificatesOfAnotherCluster_GiveNoWork_AndAWordInTheLog) {
  TestCluster cluster, other;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  ASSERT_EQ(other.Start(0).exit_code, 0);
  const CommandResult worker = Shell(absl::StrCat(
      "timeout 20 ", Program("dermis-worker"), " --coordinator ", Address(cluster), " --certs ",
      other.cluster(), "/certs --cache ", cluster.cluster(), "/cache/odd --name odd --threads 1 2>&1"));
  EXPECT_THAT(worker.output, HasSubstr("no coordinator"));
  EXPECT_THAT(cluster.Log("coordinator"), ::testing::Not(HasSubstr("odd")));
}

// Whose memory has gone bad: the smallest error in every result.
TEST(WorkerErrors, AWorkerThatComputesWrong_IsFoundAndOutvoted_AndTheStudyIsWithoutIt) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 2 --threads 1 --spot-checks 1").exit_code, 0);
  const Background wrong(
      {Program("dermis-worker"), "--coordinator", Address(cluster), "--certs",
       cluster.cluster() + "/certs", "--cache", (cluster.directory() / "wrong").string(), "--name",
       "wrong", "--threads", "1", "--device", "cpu", "--test-computes-wrong"},
      (cluster.directory() / "wrong.log").string());
  ASSERT_TRUE(cluster.AwaitDoing("wrong +idle"));
  const std::string study = cluster.Write(
      "a.yaml",
      SmallStudy(
          "a", "1",
          R"(  images: {per_confusion_cell: {most_confident: 2, least_confident: 0, random: 2}}
  methods: [{lime: {samples: 1000, superpixels: {slic: {count: 8}}}}]
)"));
  const CommandResult run =
      cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 0) << run.output;
  const TestCluster honest;
  ASSERT_EQ(honest.Start(1).exit_code, 0);
  const std::string bits = "Bits of all results";
  EXPECT_EQ(LineValue(run.output, bits),
            LineValue(honest.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images())).output, bits));
  EXPECT_EQ(honest.Stop().exit_code, 0);
  const std::string status = cluster.Run("cluster status").output;
  EXPECT_THAT(status, AllOf(HasSubstr("worker wrong is quarantined: it gave payload"),
                            HasSubstr("worker-0 and worker-1 gave"),
                            HasSubstr("dermis cluster release wrong")));
  const std::string json = cluster.Run("status a -o json").output;
  EXPECT_THAT(json, AllOf(HasSubstr("\"open\":0"), HasSubstr("\"waived\":0")));
  EXPECT_EQ(cluster.Run("cluster release wrong").exit_code, 0);
  EXPECT_EQ(cluster.Run("cluster status").output.find("ALARM: worker wrong"), std::string::npos);
  const CommandResult again = cluster.Run("cluster release wrong");
  EXPECT_NE(again.exit_code, 0);
  EXPECT_THAT(again.output, HasSubstr("is not quarantined"));
}

}  // namespace
}  // namespace dermis
