#include "worker/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(SupervisorTest, DeadWorker_IsStartedAgain_AndReportedWithCauseAndLog) {
  const TemporaryFolder folder;
  std::vector<std::string> reports;
  SupervisorOptions options;
  options.first_backoff = absl::Milliseconds(1);
  options.report = [&](const std::string& text) { reports.push_back(text); };
  // Dies by kill -9, then with code 3, then ends well.
  const std::string script = "n=$(cat " + folder.path() + "/n 2>/dev/null || echo 0); echo $((n+1)) > " +
                             folder.path() + "/n; echo words of run $n >&2; "
                             "[ $n = 0 ] && kill -9 $$; [ $n = 1 ] && exit 3; exit 0";
  EXPECT_EQ(Supervise({"/bin/sh", "-c", script}, options), 0);
  ASSERT_THAT(reports, SizeIs(2));
  EXPECT_THAT(reports[0], AllOf(HasSubstr("signal 9"), HasSubstr("words of run 0")));
  EXPECT_THAT(reports[1], AllOf(HasSubstr("exit code 3"), HasSubstr("words of run 1")));
}

TEST(SupervisorTest, TheNextWorkerIsTold_HowTheLastOneDied) {
  const TemporaryFolder folder;
  SupervisorOptions options;
  options.first_backoff = absl::Milliseconds(1);
  options.report = [](const std::string&) {};
  const std::string script = "echo \"$DERMIS_WORKER_LAST_END\" > " + folder.path() + "/told-$(ls " + folder.path() +
                             " | wc -l); echo last words >&2; [ $(ls " + folder.path() + " | wc -l) = 2 ] && exit 0; exit 3";
  EXPECT_EQ(Supervise({"/bin/sh", "-c", script}, options), 0);
  const auto read = [&](const std::string& name) {
    std::ifstream in(folder.path() + "/" + name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_EQ(read("told-0"), "\n");
  EXPECT_THAT(read("told-1"), AllOf(HasSubstr("exit code 3"), HasSubstr("last words")));
}

TEST(SupervisorTest, HopelessWorker_IsNotStartedAgain) {
  int reports = 0;
  SupervisorOptions options;
  options.report = [&](const std::string&) { ++reports; };
  EXPECT_EQ(Supervise({"/bin/sh", "-c", "exit 78"}, options), kExitHopeless);
  EXPECT_EQ(reports, 1);
}

TEST(SupervisorTest, NoOrphanStays_WhenTheSupervisorIsKilled) {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/child";
  const pid_t supervisor = fork();
  if (supervisor == 0) {
    Supervise({"/bin/sh", "-c", "echo $$ > " + file + ".new; mv " + file + ".new " + file +
                                    "; exec sleep 100"},
              {});
    _exit(0);
  }
  for (int i = 0; i < 1000 && !std::filesystem::exists(file); ++i) usleep(10'000);
  pid_t child = 0;
  std::ifstream(file) >> child;
  ASSERT_GT(child, 0);
  kill(supervisor, SIGKILL);
  bool gone = false;
  for (int i = 0; i < 1000 && !gone; ++i) {
    usleep(10'000);
    // A killed child may stay a zombie where nobody reaps it: that runs nothing either.
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string pid, name, state;
    gone = !(stat >> pid >> name >> state) || state == "Z" || state == "X";
  }
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace dermis
