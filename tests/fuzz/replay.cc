// Where there is no libFuzzer: replay [-mutations N] CORPUS... runs a target over the files of its
// corpus, and over N mutations of each, always the same ones.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;

void Run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

// A byte changed, bytes cut off, left out, doubled, or taken from another input.
std::string Mutate(std::string input, const std::vector<std::string>& others,
                   std::mt19937& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : random() % n; };
  for (size_t change = 0; change <= below(4); ++change) {
    const size_t at = below(input.size() + 1),
                 length = below(std::min<size_t>(input.size() - at, 64) + 1);
    switch (random() % 6) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(random());
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << below(8));
        break;
      case 2:
        input.resize(at);
        break;
      case 3:
        input.erase(at, length);
        break;
      case 4:
        input.insert(at, input.substr(at, length));
        break;
      default: {
        const std::string& other = others[below(others.size())];
        const size_t from = below(other.size() + 1);
        input.insert(at, other, from, below(64));
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  unsigned mutations = 500;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "-mutations") == 0 && i + 1 < argc) {
      mutations = static_cast<unsigned>(std::atoi(argv[++i]));
      continue;
    }
    for (const auto& entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    std::fprintf(stderr, "no corpus was given\n");
    return 2;
  }
  std::vector<std::string> inputs = {""};
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  std::mt19937 random(1);
  for (const std::string& input : inputs) {
    Run(input);
    for (unsigned i = 0; i < mutations; ++i) {
      const std::string mutated = Mutate(input, inputs, random);
      // What crashes is left behind, for a debugger and for the corpus.
      if (const char* keep = std::getenv("DERMIS_FUZZ_KEEP"))
        std::ofstream(keep, std::ios::binary) << mutated;
      Run(mutated);
    }
  }
  std::printf("%zu inputs, %u mutations each\n", inputs.size(), mutations);
}
