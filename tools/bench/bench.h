// What the benchmark programs have in common: --name value arguments and one line of JSON at the
// end.
#ifndef DERMIS_TOOLS_BENCH_BENCH_H_
#define DERMIS_TOOLS_BENCH_BENCH_H_

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace dermis::bench {

class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) values_[argv[i]] = argv[i + 1];
  }
  std::string Text(const std::string& name, const std::string& otherwise = "") const {
    const auto it = values_.find(name);
    return it == values_.end() ? otherwise : it->second;
  }
  long Number(const std::string& name, long otherwise) const {
    const auto it = values_.find(name);
    return it == values_.end() ? otherwise : std::atol(it->second.c_str());
  }

 private:
  std::map<std::string, std::string> values_;
};

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? 0 : n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// The line that tools/bench/run reads.
inline void Report(double value, const char* unit) {
  std::printf("{\"value\": %.6g, \"unit\": \"%s\"}\n", value, unit);
  std::fflush(stdout);
}

[[noreturn]] inline void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::fflush(stderr);
  std::_Exit(1);  // Whatever other threads do.
}

}  // namespace dermis::bench

#endif  // DERMIS_TOOLS_BENCH_BENCH_H_
