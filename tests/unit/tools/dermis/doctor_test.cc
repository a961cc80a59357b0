#include "tools/dermis/doctor.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/tasks.h"
#include "common/tls.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;

const Check* Find(const std::vector<Check>& checks, const std::string& name) {
  for (const Check& check : checks) {
    if (check.name == name) return &check;
  }
  return nullptr;
}

TEST(DoctorTest, CertificateIsJudgedByItsDates) {
  TestFolder folder;
  ASSERT_TRUE(MakeClusterCertificates(folder.path(), {}).ok());
  std::ifstream in(folder / "user.crt");
  std::stringstream pem;
  pem << in.rdbuf();
  const absl::StatusOr<Validity> validity = ValidityOf(pem.str());
  ASSERT_TRUE(validity.ok()) << validity.status();
  EXPECT_EQ(CheckCertificate("user.crt", pem.str(), absl::Now()).state, Check::kOk);
  const Check soon = CheckCertificate("user.crt", pem.str(), validity->until - absl::Hours(24 * 29));
  EXPECT_EQ(soon.state, Check::kWarning);
  EXPECT_THAT(soon.next, HasSubstr("dermis cluster start"));
  EXPECT_EQ(CheckCertificate("user.crt", pem.str(), validity->until).state, Check::kBad);
  const Check early = CheckCertificate("user.crt", pem.str(), validity->from - absl::Hours(1));
  EXPECT_EQ(early.state, Check::kBad);
  EXPECT_THAT(early.next, HasSubstr("clock"));
  EXPECT_EQ(CheckCertificate("user.crt", "not one", absl::Now()).state, Check::kBad);
}

TEST(DoctorTest, ClockDiskAndMemory_WarnBeforeTheyAreBad) {
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  EXPECT_EQ(CheckClock(now, now + absl::Seconds(3)).state, Check::kOk);
  EXPECT_EQ(CheckClock(now, now - absl::Hours(1)).state, Check::kWarning);
  EXPECT_THAT(CheckClock(now, now - absl::Hours(1)).detail, HasSubstr("1h ahead"));
  EXPECT_EQ(CheckClock(now, now + absl::Hours(30)).state, Check::kBad);
  EXPECT_EQ(CheckDisk("x", 20'000'000'000).state, Check::kOk);
  EXPECT_EQ(CheckDisk("x", 2'000'000'000).state, Check::kWarning);
  EXPECT_EQ(CheckDisk("x", 100'000'000).state, Check::kBad);
  EXPECT_EQ(CheckMemory(8'000'000'000).state, Check::kOk);
  EXPECT_EQ(CheckMemory(1'000'000'000).state, Check::kWarning);
  EXPECT_EQ(CheckMemory(100'000'000).state, Check::kBad);
}

TEST(DoctorTest, Gpus_AreCounted_AndMissedWhereTheyCannotBeUsed) {
  EXPECT_EQ(CheckGpus(absl::NotFoundError("no GPU: no driver"), false).state, Check::kOk);
  EXPECT_EQ(CheckGpus(2, true).state, Check::kOk);
  EXPECT_THAT(CheckGpus(2, true).detail, HasSubstr("2 GPUs"));
  EXPECT_EQ(CheckGpus(1, false).state, Check::kWarning);
  EXPECT_THAT(CheckGpus(1, false).next, HasSubstr("nvcc"));
  EXPECT_EQ(CheckGpus(absl::UnavailableError("the driver does not answer"), true).state, Check::kWarning);
}

TEST(DoctorTest, ClusterWithTwoNumericsClassesAQuarantineAndAnAlarm_IsToldWhatToDo) {
  v1::ClusterStatusResponse status;
  status.set_version(kVersion);
  EXPECT_EQ(Find(CheckCluster(status), "workers")->state, Check::kBad);
  v1::WorkerStatus& first = *status.add_workers();
  first.set_worker("w1");
  first.set_numerics_class("cpu/a");
  EXPECT_EQ(Find(CheckCluster(status), "workers")->state, Check::kOk);
  EXPECT_EQ(Find(CheckCluster(status), "numerics")->state, Check::kOk);
  v1::WorkerStatus& second = *status.add_workers();
  second.set_worker("w2");
  second.set_numerics_class("cpu/b");
  second.set_state("quarantined");
  status.add_alarms("w1 and w2 differ");
  status.set_disk_low(true);
  status.set_version("0.0.1");
  const std::vector<Check> checks = CheckCluster(status);
  EXPECT_EQ(Find(checks, "numerics")->state, Check::kWarning);
  EXPECT_THAT(Find(checks, "numerics")->detail, HasSubstr("cpu/b: w2"));
  EXPECT_THAT(Find(checks, "quarantine")->detail, HasSubstr("w2"));
  for (const char* name : {"quarantine", "alarm", "store", "version"}) {
    EXPECT_EQ(Find(checks, name)->state, Check::kBad) << name;
  }
  for (const Check& check : checks) {
    EXPECT_EQ(check.state == Check::kOk, check.next.empty()) << check.name;
  }
}

TEST(DoctorTest, StudyThatFailed_OrWaits_IsNamed) {
  v1::ListResponse studies;
  v1::StudyStatus& waits = *studies.add_studies();
  waits.set_id("waits");
  waits.set_phase(v1::StudyStatus::RUNNING);
  waits.add_problems("no worker is there yet: start one");
  EXPECT_EQ(Find(CheckStudies(studies), "studies")->state, Check::kOk);
  EXPECT_EQ(Find(CheckStudies(studies), "study waits")->state, Check::kWarning);
  waits.set_paused(true);  // Somebody wants it so.
  EXPECT_EQ(Find(CheckStudies(studies), "study waits"), nullptr);
  v1::StudyStatus& failed = *studies.add_studies();
  failed.set_id("failed");
  failed.set_phase(v1::StudyStatus::FAILED);
  EXPECT_THAT(Find(CheckStudies(studies), "studies")->next, HasSubstr("dermis retry failed"));
}

}  // namespace
}  // namespace dermis
