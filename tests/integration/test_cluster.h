// A real cluster for tests: the installed programs, real processes, real sockets, a temporary directory. Driven by the
// same `dermis` commands that users type.
#ifndef DERMIS_TESTS_INTEGRATION_TEST_CLUSTER_H_
#define DERMIS_TESTS_INTEGRATION_TEST_CLUSTER_H_

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

namespace dermis {

struct CommandResult {
  int exit_code = -1;
  std::string output;    // Standard output and error.
};

// Runs `dermis ARGUMENTS` with a bound on its time.
CommandResult Dermis(const std::string& arguments, int timeout_seconds = 400);

// A line of the shell.
CommandResult Shell(const std::string& command);
// The path of a built program: "dermis-worker".
std::string Program(const std::string& name);
std::string ReadAll(const std::filesystem::path& path);

// A program in the background, its standard error in `log`; killed at the end.
class Background {
 public:
  Background(std::vector<std::string> argv, std::string log);
  ~Background() { Kill(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;
  void Kill();
  // Its exit code, -1 where a signal ended it, or where it runs on.
  int Ended(int seconds = 30);
  std::string Log() const { return ReadAll(log_); }

 private:
  const std::string log_;
  pid_t pid_;
};

// The value behind "NAME: " in a command's output; "" where it is not there.
std::string LineValue(const std::string& output, const std::string& name);

// Processes of the programs that name `text` in their command lines.
int ProcessesOf(const std::string& text);

class TestCluster {
 public:
  TestCluster();
  ~TestCluster();                                  // Stops all processes, removes the directory.
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  const std::filesystem::path& directory() const { return directory_; }
  std::string cluster() const { return (directory_ / "cluster").string(); }

  // Adds `--cluster`.
  CommandResult Run(const std::string& arguments, int timeout_seconds = 400) const;
  CommandResult Start(int workers, int threads = 1) const;
  CommandResult Stop() const;

  // "coordinator"; "worker-0" = the child of its supervisor.
  void Signal(const std::string& name, int signal) const;
  void Kill9(const std::string& name) const { Signal(name, SIGKILL); }
  std::string Log(const std::string& name) const;
  // Waits until `dermis cluster status` matches the regular expression. False: all studies ended before, or a minute
  // passed.
  bool AwaitDoing(const std::string& pattern) const;

  // Writes text to a file of the directory and gives its path.
  std::string Write(const std::string& name, const std::string& text) const;
  // The path of a small synthetic image set, made once a process.
  static std::string Images();

 private:
  std::filesystem::path directory_;
};

// A small study: seconds of training, every kind of task. The lines of `training` and `methods` replace the defaults.
std::string SmallStudy(const std::string& name, const std::string& epochs = "3",
                       const std::string& explanation = "");

}  // namespace dermis

#endif  // DERMIS_TESTS_INTEGRATION_TEST_CLUSTER_H_
