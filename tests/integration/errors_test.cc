// Bad input gets a clear error and loses nothing.
#include <filesystem>
#include <fstream>
#include <future>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/test_cluster.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Errors, AMisspeltKeyNamesItsLineAndTheNearestKey) {
  TestCluster cluster;
  const std::string study = cluster.Write("s.yaml", "name: x\ntraining:\n  epoch: 3\n");
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("s.yaml:3:3"), HasSubstr("'epoch'"), HasSubstr("did you mean 'epochs'?")));
}

TEST(Errors, AMisspeltOptionOrCommandIsToldAtOnce) {
  EXPECT_EQ(Dermis("runn").exit_code, 2);
  const CommandResult run = Dermis("synth --cuont 5 -o x");
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.output, HasSubstr("--cuont"));
}

TEST(Errors, WithoutAClusterItSaysHowToStartOne) {
  TestCluster cluster;
  const CommandResult run = cluster.Run("status");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("dermis cluster start"));
}

TEST(Errors, ATrainingSplitSmallerThanABatchIsRefused) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  const std::string study = cluster.Write(
      "s.yaml", "name: x\nimages: {split: {test: 0.25, validation: 0.2}}\ntraining: {batch_size: 512}\n");
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.output, HasSubstr("batch"));
}

TEST(Errors, AnUploadBeyondAUsersQuota_IsRefusedWithTheNumbers_AndAudited) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Run("cluster start --workers 0 --dashboard '' --user-blobs 1").exit_code, 0);
  const std::string study = cluster.Write("s.yaml", SmallStudy("s"));
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("user admin has 0 blobs by studies and 1 that were uploaded"), HasSubstr("a user may have 1"),
                                HasSubstr("dermis delete"), HasSubstr("--user-blobs")));
  EXPECT_THAT(cluster.Run("audit show").output, AllOf(HasSubstr("Blobs/Put"), HasSubstr("a user may have 1")));
}

TEST(Errors, AClassWithOneImageIsRefused) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(1).exit_code, 0);
  // Images of the synthetic set would have two classes: take real files instead.
  const fs::path in = cluster.directory() / "in";
  fs::create_directories(in / "benign");
  fs::create_directories(in / "malignant");
  // The smallest PNGs: 1 x 1 pixels of different greys would be one image at any size, so sizes differ in content.
  const auto png = [&](const fs::path& path, int i) {
    const std::string command = absl::StrCat(
        "python3 -c \"import zlib,struct\n"
        "def c(t,d): return struct.pack('>I',len(d))+t+d+struct.pack('>I',zlib.crc32(t+d))\n"
        "open('", path.string(), "','wb').write(b'\\x89PNG\\r\\n\\x1a\\n'+c(b'IHDR',struct.pack('>IIBBBBB',64,64,8,0,0,0,0))"
        "+c(b'IDAT',zlib.compress((b'\\0'+bytes([", i, "])*64)*64))+c(b'IEND',b''))\"");
    ASSERT_EQ(std::system(command.c_str()), 0);
  };
  for (int i = 0; i < 8; ++i) png(in / "benign" / absl::StrCat(i, ".png"), i);
  png(in / "malignant" / "only.png", 99);
  const std::string images = (cluster.directory() / "one.images").string();
  const CommandResult ingest = Dermis(absl::StrCat("ingest ", in.string(), " -o ", images));
  ASSERT_EQ(ingest.exit_code, 0) << ingest.output;
  const std::string study = cluster.Write("s.yaml", "name: x\ntraining: {batch_size: 4}\n");
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", images));
  EXPECT_NE(run.exit_code, 0);
  EXPECT_THAT(run.output, HasSubstr("malignant"));
}

TEST(Errors, AModelThatIsLargerThanTheImages_IsRefusedBeforeAnythingIsSent) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  const std::string study = cluster.Write("s.yaml", "name: x\nimages: {size: 128}\n");
  const CommandResult run = cluster.Run(absl::StrCat("run ", study, " --images ", TestCluster::Images()));
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("images.size is 128"), HasSubstr("64 x 64")));
  EXPECT_THAT(run.output, ::testing::Not(HasSubstr("Sending")));
}

TEST(Errors, ADeadCoordinator_IsNamed_WithTheCommandThatMendsIt) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  cluster.Kill9("coordinator");
  const CommandResult status = cluster.Run("status");
  EXPECT_EQ(status.exit_code, 1);
  EXPECT_THAT(status.output, AllOf(HasSubstr("does not answer"), HasSubstr("dermis cluster start")));
}

TEST(Errors, AnUnreadableCertificateSaysWhichAndWhatToDo) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  std::ofstream(fs::path(cluster.cluster()) / "certs" / "admin.crt") << "not a certificate";
  const CommandResult run = cluster.Run("status");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, AllOf(HasSubstr("admin.crt"), HasSubstr("dermis cluster start")));
}

TEST(Errors, APortInUseIsNamed) {
  TestCluster first, second;
  ASSERT_EQ(first.Start(0).exit_code, 0);
  std::ifstream in(fs::path(first.cluster()) / "store" / "address");
  std::string address;
  in >> address;
  const CommandResult start = second.Run(absl::StrCat("cluster start --workers 0 --listen ", address));
  EXPECT_EQ(start.exit_code, 1);
  EXPECT_THAT(start.output, AllOf(HasSubstr(address), HasSubstr("in use")));
}

TEST(Errors, TwoStartsAtOnce_MakeOneCluster) {
  TestCluster cluster;
  auto other = std::async(std::launch::async, [&] { return cluster.Start(1); });
  const CommandResult first = cluster.Start(1), second = other.get();
  EXPECT_EQ(first.exit_code, 0) << first.output;
  EXPECT_EQ(second.exit_code, 0) << second.output;
  const std::string log = cluster.Log("coordinator");
  EXPECT_EQ(log.find("listens on"), log.rfind("listens on")) << log;
}

TEST(Errors, ASecondCoordinatorOnOneStoreIsRefused) {
  TestCluster cluster;
  ASSERT_EQ(cluster.Start(0).exit_code, 0);
  // A second starter that knows nothing of the first: only the store is shared.
  fs::create_directories(cluster.directory() / "other");
  fs::create_directory_symlink(fs::path(cluster.cluster()) / "store", cluster.directory() / "other" / "store");
  fs::create_directory_symlink(fs::path(cluster.cluster()) / "certs", cluster.directory() / "other" / "certs");
  const CommandResult start =
      Dermis(absl::StrCat("cluster start --workers 0 --cluster ", (cluster.directory() / "other").string()));
  EXPECT_EQ(start.exit_code, 1);
  EXPECT_THAT(start.output, HasSubstr("store"));
}

}  // namespace
}  // namespace dermis
