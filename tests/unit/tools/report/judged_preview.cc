// Writes the section of judged models of a made-up study as a page, to look at:
// judged_preview PATH [leaks]
#include <cstdio>
#include <fstream>

#include "tests/unit/tools/report/fake_judged.h"
#include "tools/report/style.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: judged_preview PATH [leaks]\n");
    return 2;
  }
  const bool leaks = argc > 2;
  const dermis::FakeJudged fake = dermis::MakeFakeJudged(1080, leaks ? 2 : 1, leaks, {});
  std::ofstream out(argv[1]);
  out << "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" "
         "content=\"light "
         "dark\"><title>Judged</title><style>"
      << dermis::kReportStyle << "</style></head><body><main><section id=\"judged\"><h2>Judged</h2>"
      << dermis::RenderJudged(fake.view, fake.manifest) << "</section></main></body></html>\n";
  out.close();
  return out ? 0 : 1;
}
