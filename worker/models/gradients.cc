#include "worker/models/gradients.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/utils.h>

#include "common/background.h"
#include "common/digest.h"
#include "common/philox.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/models/cost.h"
#include "worker/models/deep_lift.h"
#include "worker/models/deep_lift_rules.h"
#include "worker/models/network.h"
#include "worker/models/normals.h"
#include "worker/models/quadrature.h"
#include "worker/models/sample_errors.h"

namespace dermis {
namespace {

// Inputs a pass: what is in a pass decides bits, so it is a function of the network alone. Few
// enough for the maps to stay near the processor, many enough to keep a small network's
// convolutions busy.
int64_t RowsPerPass(const ModelLayout& layout) {
  constexpr uint64_t kMultiplyAddsPerPass = 640'000'000;
  return static_cast<int64_t>(
      std::clamp<uint64_t>(kMultiplyAddsPerPass / MultiplyAdds(layout), 1, 32));
}

bool NeedsBackground(const v1::GradientTask& task) {
  return task.has_deep_shap() || task.has_expected_gradients();
}

// Channels innermost everywhere, as DeepLift has it: f(x) is the same number for all methods.
torch::Tensor LogitsOf(const Model& model, const torch::Tensor& input) {
  return GraphOf(model, input.contiguous(at::MemoryFormat::ChannelsLast)).logits;
}

// values += scale * a * (b - c), element by element.
void AddProduct(const float* a, const float* b, const float* c, double scale,
                std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] += scale * a[i] * (static_cast<double>(b[i]) - static_cast<double>(c[i]));
  }
}

}  // namespace

struct GradientCache::Entry {
  Digest key;
  Model model;  // The graphs refer to it.
  std::vector<uint32_t> background;
  Digest background_digest;
  // By pass: the background's outputs and, where they fit, the recorded graphs.
  struct Pass {
    torch::Tensor logits;
    std::unique_ptr<DeepLift> graph;
  };
  std::vector<Pass> passes;
  uint64_t bytes = 0;  // Of the graphs.
};

GradientCache::GradientCache(uint64_t memory) : memory_(memory) {}
GradientCache::~GradientCache() = default;
GradientCache::GradientCache(GradientCache&&) noexcept = default;
GradientCache& GradientCache::operator=(GradientCache&&) noexcept = default;

// One task.
class GradientRun {
 public:
  static absl::StatusOr<v1::PixelAttribution> Run(const v1::GradientTask& task,
                                                  const ImageData& data, std::string_view weights,
                                                  GradientCache& cache) {
    RETURN_IF_ERROR(Prepare(task, data, weights, cache));
    GradientRun run(task, data, cache);
    ASSIGN_OR_RETURN(run.image_,
                     ExplainedInput(run.entry_.model, data, task.images(), task.image()));
    {
      torch::NoGradGuard no_graph;
      run.full_ = OutputOfRow(task.output(), LogitsOf(run.entry_.model, run.image_), 0);
    }
    switch (task.method_case()) {
      case v1::GradientTask::kDeepShap:
        RETURN_IF_ERROR(run.DeepShap());
        break;
      case v1::GradientTask::kExpectedGradients:
        RETURN_IF_ERROR(run.ExpectedGradients());
        break;
      case v1::GradientTask::kIntegratedGradients:
        RETURN_IF_ERROR(run.IntegratedGradients());
        break;
      case v1::GradientTask::kSmoothGrad:
        RETURN_IF_ERROR(run.SmoothGrad());
        break;
      case v1::GradientTask::METHOD_NOT_SET:
        return absl::InvalidArgumentError("gradients: the task names no method");
    }
    return run.Result();
  }

 private:
  GradientRun(const v1::GradientTask& task, const ImageData& data, GradientCache& cache)
      : task_(task),
        data_(data),
        cache_(cache),
        entry_(*cache.entry_),
        rows_(RowsPerPass(entry_.model.layout)),
        values_(data.image_bytes(), 0.0) {
    if (task.standard_errors()) errors_.emplace(values_.size() / 3);
  }

  // The cache's entry is the task's from here on.
  static absl::Status Prepare(const v1::GradientTask& task, const ImageData& data,
                              std::string_view weights, GradientCache& cache) {
    // What the entry is a function of: the explained image's noise is not in it.
    v1::GradientTask of;
    *of.mutable_images() = task.images();
    of.mutable_images()->clear_noise();
    *of.mutable_model() = task.model();
    if (task.has_background()) *of.mutable_background() = task.background();
    ASSIGN_OR_RETURN(Digest key, MessageDigest(of));
    if (cache.entry_ != nullptr && cache.entry_->key == key) return absl::OkStatus();
    cache.entry_ = nullptr;  // Before another one needs memory.
    auto entry = std::make_unique<GradientCache::Entry>();
    ASSIGN_OR_RETURN(entry->model, ModelOf(task.model(), weights, data, "gradients"));
    if (task.has_background()) {
      entry->background = BackgroundImages(data.split.training, data.labels,
                                           task.background().seed(), task.background().per_class());
      entry->background_digest = BackgroundDigest(data.set->manifest(), entry->background);
      const auto rows = static_cast<size_t>(RowsPerPass(entry->model.layout));
      entry->passes.resize((entry->background.size() + rows - 1) / rows);
    }
    entry->key = key;
    cache.entry_ = std::move(entry);
    return absl::OkStatus();
  }

  // Inputs of the background's pass p.
  absl::StatusOr<torch::Tensor> BackgroundInputs(size_t p) const {
    const auto rows = static_cast<size_t>(rows_), first = p * rows;
    const size_t count = std::min(rows, entry_.background.size() - first);
    return InputsOf(entry_.model, data_, absl::MakeSpan(entry_.background).subspan(first, count));
  }

  absl::Status CheckBackground() const {
    if (!entry_.background.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "gradients: the background set is empty: it is drawn from the training split, of which "
        "images.split must leave some, and background.per_class must be at least 1");
  }

  // The mean of f over the background, from passes whose logits are known.
  void SetReference() {
    double sum = 0;
    for (const auto& pass : entry_.passes) {
      for (int64_t n = 0; n < pass.logits.size(0); ++n) {
        sum += OutputOfRow(task_.output(), pass.logits, n);
      }
    }
    reference_ = sum / static_cast<double>(entry_.background.size());
  }

  absl::Status DeepShap() {
    RETURN_IF_ERROR(CheckBackground());
    for (size_t p = 0; p < entry_.passes.size(); ++p) {
      ASSIGN_OR_RETURN(const torch::Tensor references, BackgroundInputs(p));
      GradientCache::Entry::Pass& pass = entry_.passes[p];
      std::unique_ptr<DeepLift> recorded;
      DeepLift* graph = pass.graph.get();
      if (graph == nullptr) {
        ASSIGN_OR_RETURN(recorded,
                         DeepLift::Make([&model = entry_.model](
                                            const torch::Tensor& x) { return LogitsOf(model, x); },
                                        references));
        graph = recorded.get();
        pass.logits = graph->reference_logits();
      }
      AddMultiplied(*graph, pass.logits, references);
      if (recorded != nullptr && entry_.bytes + recorded->bytes() <= cache_.memory_) {
        entry_.bytes += recorded->bytes();
        pass.graph = std::move(recorded);
      }
      NoteProgress();
    }
    for (double& v : values_) v /= static_cast<double>(entry_.background.size());
    evaluations_ = entry_.background.size();
    SetReference();
    return absl::OkStatus();
  }

  // values += sum over the references of multiplier x (image - reference), in their order.
  void AddMultiplied(DeepLift& graph, const torch::Tensor& logits,
                     const torch::Tensor& references) {
    const int64_t rows = logits.size(0), classes = logits.size(1);
    const torch::Tensor explained = graph.Explain(image_);
    torch::Tensor of_logits = torch::empty({rows, classes}, torch::kFloat32);
    const absl::Span<const float> x(explained.const_data_ptr<float>(),
                                    static_cast<size_t>(classes));
    for (int64_t n = 0; n < rows; ++n) {
      const std::vector<double> row = OutputMultipliers(
          task_.output(), x,
          {logits.const_data_ptr<float>() + n * classes, static_cast<size_t>(classes)});
      std::copy(row.begin(), row.end(), of_logits.data_ptr<float>() + n * classes);
    }
    const torch::Tensor multipliers = graph.Multipliers(of_logits).contiguous();
    const auto stride = static_cast<int64_t>(values_.size());
    for (int64_t n = 0; n < rows; ++n) {
      AddProduct(multipliers.const_data_ptr<float>() + n * stride, image_.const_data_ptr<float>(),
                 references.const_data_ptr<float>() + n * stride, 1, values_);
    }
  }

  // d f / d input at [n, 3, size, size].
  torch::Tensor GradientAt(torch::Tensor inputs) const {
    inputs.requires_grad_(true);
    const torch::Tensor outputs = OutputsOf(task_.output(), LogitsOf(entry_.model, inputs));
    return torch::autograd::grad({outputs.sum()}, {inputs})[0].contiguous();
  }

  // Gradients at `count` points, a pass at a time: `point` writes the i-th input, `use` gets its
  // gradient.
  absl::Status ForEachPoint(uint32_t count,
                            const std::function<absl::Status(uint32_t, float*)>& point,
                            const std::function<void(uint32_t, const float*)>& use) {
    const auto stride = static_cast<int64_t>(values_.size());
    for (uint32_t first = 0; first < count; first += static_cast<uint32_t>(rows_)) {
      const int64_t rows = std::min<int64_t>(rows_, count - first);
      torch::Tensor inputs = torch::empty({rows, 3, data_.size, data_.size}, torch::kFloat32);
      for (int64_t n = 0; n < rows; ++n) {
        RETURN_IF_ERROR(
            point(first + static_cast<uint32_t>(n), inputs.data_ptr<float>() + n * stride));
      }
      const torch::Tensor gradients = GradientAt(inputs);
      for (int64_t n = 0; n < rows; ++n) {
        use(first + static_cast<uint32_t>(n), gradients.const_data_ptr<float>() + n * stride);
      }
      NoteProgress();
    }
    evaluations_ = count;
    return absl::OkStatus();
  }

  // out = from + t (image - from)
  void Between(const float* from, double t, float* out) const {
    const float* image = image_.const_data_ptr<float>();
    for (size_t i = 0; i < values_.size(); ++i) {
      out[i] = static_cast<float>(from[i] + t * (static_cast<double>(image[i]) - from[i]));
    }
  }

  absl::Status ExpectedGradients() {
    RETURN_IF_ERROR(CheckBackground());
    for (size_t p = 0; p < entry_.passes.size(); ++p) {
      if (entry_.passes[p].logits.defined()) continue;
      ASSIGN_OR_RETURN(const torch::Tensor inputs, BackgroundInputs(p));
      torch::NoGradGuard no_graph;
      entry_.passes[p].logits = LogitsOf(entry_.model, inputs).contiguous();
    }
    SetReference();
    const uint32_t samples = task_.expected_gradients().samples();
    std::vector<torch::Tensor> froms(samples);
    RETURN_IF_ERROR(ForEachPoint(
        samples,
        [&](uint32_t i, float* out) -> absl::Status {
          const auto words =
              PhiloxBlock(task_.seed(), Purpose::kExpectedGradients, i, task_.image(), 0);
          const auto which =
              static_cast<size_t>(uint64_t{words[2]} * entry_.background.size() >> 32);
          ASSIGN_OR_RETURN(froms[i], InputsOf(entry_.model, data_, {entry_.background[which]}));
          Between(froms[i].const_data_ptr<float>(), ToUnitDouble(words[0], words[1]), out);
          return absl::OkStatus();
        },
        [&](uint32_t i, const float* gradient) {
          const float* const image = image_.const_data_ptr<float>();
          const float* const from = froms[i].const_data_ptr<float>();
          AddProduct(gradient, image, from, 1.0 / samples, values_);
          NoteSample([&](size_t k) {
            return gradient[k] * (static_cast<double>(image[k]) - static_cast<double>(from[k]));
          });
          froms[i].reset();
        }));
    return absl::OkStatus();
  }

  absl::Status IntegratedGradients() {
    // The training split's mean colour, as the network gets it.
    torch::Tensor from = torch::empty_like(image_);
    const size_t pixels = values_.size() / 3;
    for (size_t c = 0; c < 3; ++c) {
      // Without training images: the model's own mean, which is 0 to it.
      const double mean =
          data_.split.training.empty() ? entry_.model.pixel_mean : data_.channel_mean[c];
      const auto value = static_cast<float>((mean - entry_.model.pixel_mean) /
                                            255 * InputRange(entry_.model));
      std::fill_n(from.data_ptr<float>() + c * pixels, pixels, value);
    }
    {
      torch::NoGradGuard no_graph;
      reference_ = OutputOfRow(task_.output(), LogitsOf(entry_.model, from), 0);
    }
    const std::vector<QuadraturePoint> rule = GaussLegendre(task_.integrated_gradients().steps());
    return ForEachPoint(
        static_cast<uint32_t>(rule.size()),
        [&](uint32_t i, float* out) {
          Between(from.const_data_ptr<float>(), rule[i].at, out);
          return absl::OkStatus();
        },
        [&](uint32_t i, const float* gradient) {
          AddProduct(gradient, image_.const_data_ptr<float>(), from.const_data_ptr<float>(),
                     rule[i].weight, values_);
        });
  }

  absl::Status SmoothGrad() {
    const uint32_t samples = task_.smooth_grad().samples();
    const double range = InputRange(entry_.model), noise = task_.smooth_grad().noise() * range;
    const float* image = image_.const_data_ptr<float>();
    return ForEachPoint(
        samples,
        [&](uint32_t i, float* out) {
          for (size_t k = 0; k < values_.size(); k += 4) {
            const auto words = PhiloxBlock(task_.seed(), Purpose::kSmoothGrad, i, task_.image(),
                                           static_cast<uint32_t>(k / 4));
            const auto [a, b] = Normals(words[0], words[1]);
            const auto [c, d] = Normals(words[2], words[3]);
            const double draws[] = {a, b, c, d};
            for (size_t j = k; j < std::min(k + 4, values_.size()); ++j) {
              out[j] = static_cast<float>(image[j] + noise * draws[j - k]);
            }
          }
          return absl::OkStatus();
        },
        [&](uint32_t, const float* gradient) {
          for (size_t i = 0; i < values_.size(); ++i) values_[i] += range / samples * gradient[i];
          NoteSample([&](size_t k) { return range * gradient[k]; });
        });
  }

  // What one draw says of each value, for the errors of their mean, where the task asks for them.
  template <typename Value>
  void NoteSample(Value value) {
    if (!errors_) return;
    const size_t pixels = errors_->pixels();
    errors_->Add([&](size_t p) { return value(p) + value(pixels + p) + value(2 * pixels + p); });
  }

  absl::StatusOr<v1::PixelAttribution> Result() const {
    v1::PixelAttribution result;
    result.set_height(data_.size);
    result.set_width(data_.size);
    result.set_channels(3);
    const size_t pixels = values_.size() / 3;
    double sum = 0;
    for (size_t p = 0; p < pixels; ++p) {
      for (size_t c = 0; c < 3; ++c) {
        sum += values_[c * pixels + p];
        result.add_values(static_cast<float>(values_[c * pixels + p]));
      }
    }
    if (!std::isfinite(sum) || !std::isfinite(full_)) {
      return absl::InternalError(absl::StrCat("gradients of image ", task_.image(),
                                              " are not finite: the model diverged"));
    }
    result.set_full(full_);
    if (reference_) {
      result.set_reference(*reference_);
      result.set_additivity_residual(full_ - *reference_ - sum);
    }
    if (errors_ && errors_->available()) {
      for (size_t p = 0; p < pixels; ++p) {
        result.add_standard_errors(static_cast<float>(errors_->of(p)));
      }
      result.set_sum_standard_error(errors_->of_sum());
    }
    if (NeedsBackground(task_)) result.set_background(entry_.background_digest.bytes());
    result.set_evaluations(static_cast<uint32_t>(evaluations_));
    return result;
  }

  const v1::GradientTask& task_;
  const ImageData& data_;
  GradientCache& cache_;
  GradientCache::Entry& entry_;
  const int64_t rows_;
  std::vector<double> values_;  // 3 x size x size.
  torch::Tensor image_;         // [1, 3, size, size]
  double full_ = 0;
  std::optional<double> reference_;
  std::optional<SampleErrors> errors_;  // Where the task asks for them.
  uint64_t evaluations_ = 0;
};

absl::StatusOr<v1::PixelAttribution> RunGradient(const v1::GradientTask& task,
                                                 const ImageData& data, std::string_view weights,
                                                 GradientCache& cache) {
  at::set_num_threads(1);
  try {
    return GradientRun::Run(task, data, weights, cache);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat("gradients of image ", task.image(), ": ", e.what()));
  }
}

}  // namespace dermis
