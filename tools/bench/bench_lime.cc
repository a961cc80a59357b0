// LIME of one image: its masked inputs, their outputs, the fit; the superpixels are made before.
//   dermis_bench_lime --what seconds|overhead [--precision fp32|bf16] [--threads T] [--samples N]
//   [--repeats N]
// and the network's arguments (training.h). seconds: an image. overhead: over samples / plain rate
// of the same plans on as many threads, measured in turn: a ratio.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "common/tasks.h"
#include "tools/bench/bench.h"
#include "tools/bench/network_plan.h"
#include "tools/bench/training.h"
#include "worker/explain/explain.h"
#include "worker/plan/inference_plan.h"

namespace dermis::bench {
namespace {

class Lime {
 public:
  explicit Lime(const Arguments& arguments)
      : network_(arguments),
        samples_(static_cast<uint32_t>(arguments.Number("--samples", 1000))),
        data_(MakeData(network_.size, 1, 0)) {
    v1::SuperpixelTask cut;
    cut.mutable_superpixels()->mutable_slic()->set_count(50);
    auto superpixels = RunSuperpixels(cut, *data_->set);
    if (!superpixels.ok()) Die(superpixels.status().ToString());
    superpixels_ = *std::move(superpixels);
    for (long t = 0; t < arguments.Number("--threads", 1); ++t) {
      plans_.push_back(MakePlan(network_, PrecisionOf(arguments)));
    }
    v1::Perturbation& perturbation = *fit_.mutable_perturbation();
    perturbation.mutable_lime()->set_samples(samples_);
    perturbation.set_hidden(v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
    perturbation.set_seed(1);
    perturbation.set_precision(PrecisionOf(arguments));
    fit_.set_output(v1::OUTPUT_KIND_MARGIN);
  }

  // Seconds of one explanation; its runs are shared out as they are to a worker's threads.
  double Explain() {
    const double start = Seconds();
    const uint32_t runs = RunCount(fit_.perturbation());
    std::vector<v1::PerturbOutput> outputs(runs);
    std::atomic<uint32_t> next{0};
    OnEachPlan([&](InferencePlan& plan) {
      for (uint32_t run = next++; run < runs; run = next++) {
        v1::PerturbTask task;
        *task.mutable_perturbation() = fit_.perturbation();
        task.set_run(run);
        auto output = RunPerturb(task, *data_, superpixels_, plan);
        if (!output.ok()) Die(output.status().ToString());
        outputs[run] = *std::move(output);
      }
    });
    const auto fit = RunFit(fit_, superpixels_.count(), outputs);
    if (!fit.ok()) Die(fit.status().ToString());
    return Seconds() - start;
  }

  // Seconds of as many plain inputs.
  double Plain() {
    const double start = Seconds();
    std::atomic<uint32_t> next{0};
    OnEachPlan([&](InferencePlan& plan) {
      std::vector<float> logits(size_t{plan.max_batch()} * plan.classes());
      for (;;) {
        const uint32_t first = next.fetch_add(plan.max_batch());
        if (first >= samples_) return;
        if (!plan.Run(std::min(plan.max_batch(), samples_ - first), logits.data()).ok()) Die("Run");
      }
    });
    return Seconds() - start;
  }

 private:
  template <typename F>
  void OnEachPlan(const F& work) {
    std::vector<std::thread> threads;
    for (auto& plan : plans_) threads.emplace_back([&work, &plan] { work(*plan); });
    for (std::thread& thread : threads) thread.join();
  }

  const Network network_;
  const uint32_t samples_;
  std::shared_ptr<const ImageData> data_;
  v1::SuperpixelOutput superpixels_;
  std::vector<std::unique_ptr<InferencePlan>> plans_;
  v1::FitTask fit_;
};

int Main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  const bool overhead = arguments.Text("--what") == "overhead";
  Lime lime(arguments);
  lime.Explain();  // Warms up.
  std::vector<double> found;
  for (long repeat = arguments.Number("--repeats", 5); repeat-- > 0;) {
    const double plain = overhead ? lime.Plain() : 1;
    found.push_back(lime.Explain() / plain);
  }
  Report(Median(found), overhead ? "of its inputs' plain time" : "s");
  return 0;
}

}  // namespace
}  // namespace dermis::bench

int main(int argc, char** argv) { return dermis::bench::Main(argc, argv); }
