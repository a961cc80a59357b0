// PCA and t-SNE: seconds, of the whole computation from what is in memory.
//   dermis_bench_embedding --what pca --images FILE [--size 224] [--scores OUT] [--how
//   gram|randomised]
//                          [--basis OUT]
//   dermis_bench_embedding --what tsne --scores FILE [--embedding OUT] [--seed N]
//   dermis_bench_embedding --what kl --scores FILE --embedding FILE [--most-dense N]    the judge:
//   exact
// all: [--components 50] [--threads N] [--perplexity 30]. seed: a random start in place of that by
// the components. The judge's P is dense, or of neighbours beyond N points (8000). images: n x size
// x size x 3 bytes; scores: n x components doubles; embedding: n x 2 doubles; basis (of gram):
// components x pixels floats. Parts are printed to standard error.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "worker/classical/gram.h"
#include "worker/embedding/affinities.h"
#include "worker/embedding/parallel.h"
#include "worker/embedding/pca.h"
#include "worker/embedding/tsne.h"

namespace dermis::bench {
namespace {

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Die("cannot read '" + path + "'");
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return std::move(bytes).str();
}

std::vector<double> ReadDoubles(const std::string& path) {
  const std::string bytes = Read(path);
  std::vector<double> values(bytes.size() / sizeof(double));
  std::copy_n(bytes.data(), values.size() * sizeof(double), reinterpret_cast<char*>(values.data()));
  return values;
}

template <typename T>
void Write(const std::string& path, const std::vector<T>& values) {
  if (path.empty()) return;
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(T)));
  if (!out.flush()) Die("cannot write '" + path + "'");
}

// Rows of a triangle cost as their number: pieces of about equal work, in order.
std::vector<double> CentredGram(const PixelRows<uint8_t>& x, int threads) {
  const size_t n = x.rows.size(), pieces = std::min<size_t>(n, 16 * static_cast<size_t>(threads));
  std::vector<std::vector<int64_t>> parts(pieces);
  const auto begin = [&](size_t piece) {
    return static_cast<size_t>(std::lround(static_cast<double>(n) *
                                           std::sqrt(static_cast<double>(piece) / static_cast<double>(pieces))));
  };
  ForEachPiece(threads, pieces, [&](size_t piece) {
    parts[piece] = GramRows(x.rows, x.columns, begin(piece), begin(piece + 1));
  });
  std::vector<int64_t> values;
  for (const auto& part : parts) values.insert(values.end(), part.begin(), part.end());
  const Gram gram = *Gram::FromValues(n, std::move(values));
  std::vector<uint32_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  return CentredKernel(gram, all).values;
}

template <typename T>
T Checked(absl::StatusOr<T> result) {
  if (!result.ok()) Die(std::string(result.status().message()));
  return *std::move(result);
}

void BenchPca(const Arguments& arguments, const PcaOptions& options) {
  const auto size = static_cast<size_t>(arguments.Number("--size", 224));
  const std::string images = Read(arguments.Text("--images"));
  const size_t columns = size * size * 3, n = images.size() / columns;
  std::vector<const uint8_t*> rows;
  for (size_t i = 0; i < n; ++i) {
    rows.push_back(reinterpret_cast<const uint8_t*>(images.data()) + i * columns);
  }
  const PixelRows<uint8_t> x = {rows, columns};
  const double start = Seconds();
  Pca pca;
  if (arguments.Text("--how", "gram") == "gram") {
    const std::vector<double> gram = CentredGram(x, options.threads);
    const double made = Seconds();
    pca = Checked(PcaOfGram(gram, n, options));
    const double solved = Seconds();
    const PcaBasis basis = Checked(BasisOf(x, pca, options.threads));
    Write(arguments.Text("--basis"), basis.components);
    std::fprintf(stderr, "%zu images: Gram matrix %.2f s, eigenvectors %.2f s, components %.2f s\n",
                 n, made - start, solved - made, Seconds() - solved);
  } else {
    pca = Checked(RandomisedPca(x, {.pca = options})).pca;
  }
  const double taken = Seconds() - start;
  Write(arguments.Text("--scores"), pca.scores);
  Report(taken, "s");
}

Affinities AffinitiesOfScores(const std::vector<double>& scores, size_t components,
                              const Arguments& arguments, int threads) {
  const DistanceRows rows = DistanceRows::OfPoints(scores, components);
  return Checked(
      AffinitiesOf(rows, {.perplexity = static_cast<double>(arguments.Number("--perplexity", 30)),
                          .most_dense = static_cast<size_t>(arguments.Number("--most-dense", 8000)),
                          .threads = threads}));
}

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const std::string what = arguments.Text("--what");
  const auto components = static_cast<size_t>(arguments.Number("--components", 50));
  const int threads = static_cast<int>(arguments.Number("--threads", 1));
  if (what == "pca") {
    BenchPca(arguments, {.components = components, .threads = threads});
    return 0;
  }
  const std::vector<double> scores = ReadDoubles(arguments.Text("--scores"));
  const double start = Seconds();
  const Affinities p = AffinitiesOfScores(scores, components, arguments, threads);
  if (what == "kl") {
    Report(KlDivergence(p, ReadDoubles(arguments.Text("--embedding")), threads), "KL");
    return 0;
  }
  const double made = Seconds();
  const size_t n = scores.size() / components;
  const long seed = arguments.Number("--seed", -1);
  const std::vector<double> initial =
      seed < 0 ? PcaStart(scores, n) : RandomStart(n, static_cast<uint64_t>(seed));
  const Tsne tsne = Checked(RunTsne(p, initial, {.threads = threads}));
  const double taken = Seconds() - start;
  std::fprintf(stderr, "%zu points: P %.2f s, %u iterations %.2f s, KL %.4f\n", n, made - start,
               tsne.iterations, taken - (made - start), tsne.kl);
  Write(arguments.Text("--embedding"), tsne.embedding);
  Report(taken, "s");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
