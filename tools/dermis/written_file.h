// The option of commands that write a file and tell of it: `-o FILE`; or `-o json`, to tell
// programs, with the file as `--out FILE`.
#ifndef DERMIS_TOOLS_DERMIS_WRITTEN_FILE_H_
#define DERMIS_TOOLS_DERMIS_WRITTEN_FILE_H_

#include <string>

#include "CLI/CLI.hpp"

namespace dermis {

struct WrittenFile {
  std::string path;
  bool json = false;
};
enum class FileIs { kRequired, kOptional, kRequiredOrDash };  // Dash: standard output.

// `what`: the help's words for it. `out` outlives the command.
void AddFileOption(CLI::App& command, const std::string& what, FileIs is, WrittenFile& out);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_WRITTEN_FILE_H_
