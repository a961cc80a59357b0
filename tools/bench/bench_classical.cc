// The baselines on images of bytes: seconds.
//   dermis_bench_classical --rows FILE --labels FILE --what l2|l1|forest|products|folds [--size N]
//                          [--strongest E] [--weakest E] [--threads T] [--repeats N]
//                          [--folds FILE --trees N --depth N --seeds N] [--weights OUT]
// FILEs: N x N x 3 bytes an image, and a byte each. l2: products, kernel and the path over C =
// 10^weakest (1e-6) .. 10^strongest (100) by decades, one thread. l1: the same path. forest: 20
// trees of depth 5, images turned into columns included. products: those alone, by the fastest
// kernel; each kernel's seconds are printed, in turn. folds: forests of seeds 1 .. N on all images
// but those of a fold (a byte an image: its fold), which are then scored; prints a line "fold seed
// accuracy" for each. weights: of each C those of the pixels (doubles), then the intercept. What it
// found is printed beside the value, for comparison with the peer's.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tools/bench/bench.h"
#include "worker/classical/forest.h"
#include "worker/classical/logistic_l1.h"
#include "worker/classical/logistic_l2.h"

namespace dermis::bench {
namespace {

std::string Contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  if (bytes.str().empty()) Die(path + " is empty or cannot be read");
  return bytes.str();
}

struct Data {
  std::vector<const uint8_t*> rows;
  std::vector<uint8_t> labels;
  size_t p = 0;
  uint32_t size = 0;
};

void Write(const LogisticModel& model, std::ofstream& out) {
  out.write(reinterpret_cast<const char*>(model.weights.data()),
            static_cast<std::streamsize>(model.weights.size() * sizeof(double)));
  out.write(reinterpret_cast<const char*>(&model.intercept), sizeof model.intercept);
  if (!out.flush()) Die("the weights cannot be written");
}

void PathByKernel(const Data& data, const std::vector<double>& strengths,
                  const std::string& weights) {
  const double start = Seconds();
  const size_t n = data.rows.size();
  const auto gram = Gram::FromValues(n, GramRows(data.rows, data.p, 0, n));
  const double multiplied = Seconds();
  std::vector<uint32_t> all(n);
  std::iota(all.begin(), all.end(), 0u);
  const auto fits = FitL2Path(CentredKernel(*gram, all), data.labels, strengths);
  if (!fits.ok()) Die(fits.status().ToString());
  std::fprintf(stderr, "products %.2f s, path %.2f s\n", multiplied - start,
               Seconds() - multiplied);
  std::ofstream out;
  if (!weights.empty()) out.open(weights, std::ios::binary);
  for (const L2Fit& fit : *fits) {
    std::fprintf(stderr, "C %g: objective %.9g, gradient %.1e, steps %u\n", fit.strength,
                 fit.objective, fit.gradient, fit.steps);
    if (!fit.converged) Die("not converged");
    if (out.is_open()) Write(L2Model(data.rows, data.size, fit), out);
  }
}

double Products(const Data& data) {
  double fastest = 0;
  std::vector<int64_t> values;
  for (const auto& [name, kernel] :
       {std::pair{"AVX-512 VNNI", ByteKernel::kVnni}, {"AMX-INT8", ByteKernel::kAmx}}) {
    if (!HasKernel(kernel)) continue;
    const double start = Seconds();
    std::vector<int64_t> found = GramRows(data.rows, data.p, 0, data.rows.size(), kernel);
    fastest = Seconds() - start;
    std::fprintf(stderr, "%s: %.3f s\n", name, fastest);
    if (!values.empty() && found != values) Die("kernels disagree");
    values = std::move(found);
  }
  return fastest;
}

void PathByColumns(const Data& data, const std::vector<double>& strengths,
                   const std::string& weights) {
  const double start = Seconds();
  const PixelColumns columns(data.rows, data.p);
  std::fprintf(stderr, "columns %.2f s\n", Seconds() - start);
  const auto fits = FitL1Path(columns, data.labels, strengths);
  if (!fits.ok()) Die(fits.status().ToString());
  std::ofstream out;
  if (!weights.empty()) out.open(weights, std::ios::binary);
  for (const L1Fit& fit : *fits) {
    std::fprintf(stderr, "C %g: objective %.9g, gap %.1e, pixels %zu, passes %u\n", fit.strength,
                 fit.objective, fit.gap, fit.features.size(), fit.passes);
    if (!fit.converged) Die("not converged");
    if (out.is_open()) Write(L1Model(fit, data.size, MeanPixels(data.rows, data.p)), out);
  }
}

struct Wood {
  uint32_t trees = 20, depth = 5;
  int threads = 1;
};

std::vector<Tree> Grow(const Data& data, const PixelColumns& columns, const Wood& wood,
                       uint64_t seed) {
  const std::vector<uint32_t> labels(data.labels.begin(), data.labels.end());
  std::vector<Tree> trees(wood.trees);
  std::atomic<uint32_t> next = 0;
  std::vector<std::thread> pool;
  for (int t = 0; t < wood.threads; ++t) {
    pool.emplace_back([&] {
      for (uint32_t tree; (tree = next++) < wood.trees;) {
        trees[tree] = *GrowTree(columns, labels, {2, wood.depth, 0}, seed, tree);
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  return trees;
}

void ScoreFolds(const Data& data, const std::string& folds, const Wood& wood, uint64_t seeds) {
  if (folds.size() != data.rows.size()) Die("--folds and --rows do not fit");
  const auto last = static_cast<uint8_t>(*std::max_element(folds.begin(), folds.end()));
  for (uint8_t fold = 0; fold <= last; ++fold) {
    Data training{{}, {}, data.p, data.size}, held = training;
    for (size_t i = 0; i < data.rows.size(); ++i) {
      Data& part = static_cast<uint8_t>(folds[i]) == fold ? held : training;
      part.rows.push_back(data.rows[i]);
      part.labels.push_back(data.labels[i]);
    }
    const PixelColumns columns(training.rows, data.p);
    for (uint64_t seed = 1; seed <= seeds; ++seed) {
      const Forest forest{0, 2, {}, Grow(training, columns, wood, seed)};
      size_t right = 0;
      for (size_t i = 0; i < held.rows.size(); ++i) {
        right += (Probabilities(forest, held.rows[i])[1] > .5) == (held.labels[i] == 1);
      }
      std::printf("%d %ld %.9g\n", fold, static_cast<long>(seed),
                  static_cast<double>(right) / static_cast<double>(held.rows.size()));
      std::fflush(stdout);
    }
  }
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const auto size = static_cast<size_t>(arguments.Number("--size", 224));
  const std::string pixels = Contents(arguments.Text("--rows"));
  const std::string labels = Contents(arguments.Text("--labels"));
  Data data;
  data.p = size * size * 3;
  data.size = static_cast<uint32_t>(size);
  if (pixels.size() != labels.size() * data.p) Die("--rows and --labels do not fit");
  data.labels.assign(labels.begin(), labels.end());
  for (size_t i = 0; i < labels.size(); ++i) {
    data.rows.push_back(reinterpret_cast<const uint8_t*>(pixels.data()) + i * data.p);
  }
  std::vector<double> strengths;
  for (long e = arguments.Number("--weakest", -6); e <= arguments.Number("--strongest", 2); ++e) {
    strengths.push_back(std::pow(10.0, static_cast<double>(e)));
  }
  const std::string what = arguments.Text("--what");
  const Wood wood{static_cast<uint32_t>(arguments.Number("--trees", 20)),
                  static_cast<uint32_t>(arguments.Number("--depth", 5)),
                  static_cast<int>(arguments.Number("--threads", 1))};
  std::vector<double> taken;
  for (long repeat = arguments.Number("--repeats", 1); repeat-- > 0;) {
    const double start = Seconds();
    if (what == "l2") {
      PathByKernel(data, strengths, arguments.Text("--weights"));
    } else if (what == "l1") {
      PathByColumns(data, strengths, arguments.Text("--weights"));
    } else if (what == "products") {
      taken.push_back(Products(data));
      continue;
    } else if (what == "folds") {
      ScoreFolds(data, Contents(arguments.Text("--folds")), wood,
                 static_cast<uint64_t>(arguments.Number("--seeds", 20)));
    } else {
      Grow(data, PixelColumns(data.rows, data.p), wood, 1);
    }
    taken.push_back(Seconds() - start);
  }
  Report(Median(taken), "s");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
