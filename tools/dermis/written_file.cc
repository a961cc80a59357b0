#include "tools/dermis/written_file.h"

#include "absl/strings/str_cat.h"

#include "tools/dermis/output.h"

namespace dermis {

void AddFileOption(CLI::App& command, const std::string& what, FileIs is, WrittenFile& out) {
  CLI::Option* const named = command.add_option("--out", out.path, what);
  CLI::Option* const either = command.add_option_function<std::string>(
      "-o,--output",
      [&out](const std::string& said) {
        if (said == "json") {
          out.json = true;
        } else {
          out.path = said;
        }
      },
      absl::StrCat("As --out; or json, for programs, with --out beside it",
                   is == FileIs::kOptional ? "" : ". One of the two is required"));
  if (is != FileIs::kRequiredOrDash) {
    for (CLI::Option* option : {named, either}) option->check(NamedFile());
  }
  command.parse_complete_callback([&out, named, either, is] {
    if (named->count() > 0 && either->count() > 0 && !out.json) {
      throw CLI::ValidationError("-o", "beside --out it can only be json");
    }
    if (out.path.empty() && is != FileIs::kOptional) {
      throw CLI::RequiredError(out.json ? "--out" : "-o");
    }
  });
}

}  // namespace dermis
