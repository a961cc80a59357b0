#include "worker/blackbox/torchscript.h"

#include <exception>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include <torch/script.h>

#include "worker/unavailability.h"

namespace dermis {
namespace {

// Messages of Torch come with stacks of C++, those of scripts with the script around them, the
// reason in the last line.
std::string WordsOf(const std::exception& error) {
  constexpr size_t kMost = 500;
  const auto* const own = dynamic_cast<const c10::Error*>(&error);
  std::string words = own != nullptr ? own->what_without_backtrace() : error.what();
  if (own == nullptr) {
    words.erase(words.find_last_not_of(" \n") + 1);
    words.erase(0, words.rfind('\n') + 1);
  }
  return words.size() > kMost ? words.substr(0, kMost) + " ..." : words;
}

class TorchScript final : public ForeignRuntime {
 public:
  TorchScript(torch::jit::Module module, uint32_t size) : module_(std::move(module)), size_(size) {}

  absl::StatusOr<std::vector<float>> Run(const float* tensor) override {
    at::set_num_threads(1);
    const c10::InferenceMode no_gradients;
    const torch::jit::GraphOptimizerEnabledGuard as_written(false);
    try {
      const int64_t side = size_;
      // A copy: the model may write into its input.
      const torch::Tensor input =
          torch::from_blob(const_cast<float*>(tensor), {1, 3, side, side}, torch::kFloat32).clone();
      const torch::jit::IValue value = module_.forward({input});
      if (!value.isTensor()) {
        return absl::InvalidArgumentError(absl::StrCat("the model's file: its forward gives a ",
                                                       value.tagKind(),
                                                       "; one tensor of class outputs is needed"));
      }
      const torch::Tensor output = value.toTensor().to(torch::kCPU, torch::kFloat32).contiguous();
      const float* const data = output.data_ptr<float>();
      return std::vector<float>(data, data + output.numel());
    } catch (const std::exception& error) {
      if (const absl::Status status = StatusOfException(error); IsUnavailability(status))
        return status;
      return absl::InvalidArgumentError(absl::StrCat("the model's file does not run on a 1 x 3 x ",
                                                     size_, " x ", size_,
                                                     " input: ", WordsOf(error)));
    }
  }

 private:
  torch::jit::Module module_;
  const uint32_t size_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ForeignRuntime>> OpenTorchScript(const std::string& bytes,
                                                                uint32_t size) {
  try {
    std::istringstream in(bytes);
    torch::jit::Module module = torch::jit::load(in, torch::kCPU);
    module.eval();
    return std::make_unique<TorchScript>(std::move(module), size);
  } catch (const std::exception& error) {
    if (const absl::Status status = StatusOfException(error); IsUnavailability(status))
      return status;
    return absl::InvalidArgumentError(
        absl::StrCat("the model's file is not TorchScript as torch.jit.save writes it (a pickled "
                     "model or a state dict is not: "
                     "torch.jit.trace or torch.jit.script it first): ",
                     WordsOf(error)));
  }
}

}  // namespace dermis
