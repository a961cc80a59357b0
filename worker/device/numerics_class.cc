#include "worker/device/numerics_class.h"

#include <gnu/libc-version.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <torch/autograd.h>
#include <torch/types.h>
#include <torch/version.h>

#include <ATen/Version.h>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/philox.h"
#include "common/status_macros.h"
#include "worker/device/dnnl_version.h"
#include "worker/models/model.h"
#include "worker/plan/inference_plan.h"
#include "worker/plan/winograd.h"
#include "worker/training/augmentation.h"
#include "worker/training/seed_cnn_kernels.h"

namespace dermis {
namespace {

// Fixed data in [-1, 1), the same on every machine.
torch::Tensor Data(uint64_t index, at::IntArrayRef shape) {
  torch::Tensor out = torch::empty(shape, torch::kFloat32);
  float* p = out.data_ptr<float>();
  const int64_t n = out.numel();
  for (int64_t i = 0; i < n; i += 4) {
    const auto block = PhiloxBlock(0, Purpose::kTest, index, 0, static_cast<uint32_t>(i / 4));
    for (int64_t k = 0; k < 4 && i + k < n; ++k) p[i + k] = 2 * ToUnitFloat(block[k]) - 1;
  }
  return out;
}

void Hash(Sha256& hash, const torch::Tensor& tensor) {
  const torch::Tensor flat = tensor.detach().to(torch::kFloat32).contiguous();
  hash.Update(flat.data_ptr<float>(), flat.numel() * sizeof(float));
}

// The layer types of our networks at their shapes of interest, small: convolution, ELU, batch norm, max
// pool, dropout mask, linear, cross entropy; gradients of all parameters.
void Network(Sha256& hash, torch::ScalarType type) {
  const auto leaf = [&](uint64_t index, at::IntArrayRef shape) {
    return (Data(index, shape) * 0.1).requires_grad_(true);
  };
  torch::Tensor x = Data(1, {16, 3, 32, 32}).to(torch::MemoryFormat::ChannelsLast);
  std::vector<torch::Tensor> parameters = {leaf(2, {32, 3, 3, 3}),  leaf(3, {32}),
                                           leaf(4, {64, 32, 3, 3}), leaf(5, {64}),
                                           leaf(6, {2, 64 * 8 * 8}), leaf(7, {2}),
                                           leaf(8, {32}),           leaf(9, {32})};
  auto& p = parameters;
  torch::Tensor h = torch::conv2d(x.to(type), p[0].to(type), p[1].to(type), 1, 1);
  h = torch::elu(h).to(torch::kFloat32);
  h = torch::batch_norm(h, p[6], p[7], {}, {}, /*training=*/true, 0.1, 1e-3, /*cudnn=*/false);
  h = torch::max_pool2d(h, 2);
  h = h * (Data(10, h.sizes()) > -0.6).to(torch::kFloat32) * 1.25;
  h = torch::elu(torch::conv2d(h.to(type), p[2].to(type), p[3].to(type), 1, 1)).to(torch::kFloat32);
  h = torch::max_pool2d(h, 2).flatten(1);
  const torch::Tensor logits = torch::linear(h.to(type), p[4].to(type), p[5].to(type)).to(torch::kFloat32);
  const torch::Tensor labels = (torch::arange(16, torch::kLong) % 2);
  const torch::Tensor loss = torch::nll_loss(torch::log_softmax(logits, 1), labels);
  Hash(hash, logits);
  Hash(hash, loss);
  for (const torch::Tensor& g : torch::autograd::grad({loss}, parameters)) Hash(hash, g);
}

template <typename T>
void Hash(Sha256& hash, const std::vector<T>& values) {
  hash.Update(values.data(), values.size() * sizeof(T));
}

// The C library's functions that results are made with: superpixels, distances, rotations, losses.
void Libm(Sha256& hash) {
  std::vector<double> out;
  for (int i = 1; i <= 500; ++i) {
    const double x = i * 0.0137;
    for (const double y : {std::exp(-x), std::exp(x), std::log(x), std::pow(x, 2.4), std::pow(x, 1 / 2.4),
                           std::cbrt(x), std::sin(x), std::cos(x), std::sqrt(x)}) {
      out.push_back(y);
    }
  }
  Hash(hash, out);
}

// Our own loops.
void Kernels(Sha256& hash) {
  constexpr uint32_t kSize = 32, kChannels = 32, kRows = 4 * kSize * kSize;
  std::vector<uint8_t> pixels(kSize * kSize * 3);
  for (size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<uint8_t>(PhiloxBlock(0, Purpose::kTest, 20, 0, static_cast<uint32_t>(i))[0]);
  }
  std::vector<float> image(pixels.size());
  AugmentImage(pixels.data(), kSize, DrawAugmentation(AugmentationRanges(), 1, 1, 1, kSize),
               {127.0f, 1.0f / 64}, image.data());
  Hash(hash, image);
  const auto floats = [](uint64_t index, int64_t count) {
    const torch::Tensor values = Data(index, {count});
    return std::vector<float>(values.data_ptr<float>(), values.data_ptr<float>() + count);
  };
  std::vector<float> map = floats(21, kRows * kChannels);
  std::vector<double> mean(kChannels), variance(kChannels);
  EluStatistics(map.data(), kRows, kChannels, mean.data(), variance.data());
  Hash(hash, map);
  Hash(hash, mean);
  Hash(hash, variance);
  if (!WinogradConvolution::Supported()) return;
  // Nine tiles: the matrix product's inner loop of six rows, and of three.
  constexpr size_t kSide = 10, kIn = 64, kOut = 64;
  std::vector<float> scratch, out = floats(26, kSide * kSide * kOut);
  WinogradConvolution(kIn, kOut, floats(23, kOut * kIn * 9), floats(24, kOut))
      .Run(1, kSide, floats(25, kSide * kSide * kIn).data(), true, true, out.data(), scratch);
  Hash(hash, out);
}

// The plan that images are evaluated and explained with, on a model that is made up.
absl::Status Plan(Sha256& hash, v1::Precision precision) {
  Model model;
  ASSIGN_OR_RETURN(model.layout, LayoutOf(v1::MODEL_KIND_SEED_CNN, 32, 2));
  model.pixel_mean = 127;
  model.pixel_deviation = 64;
  InitializeModel(1, model);
  ASSIGN_OR_RETURN(std::unique_ptr<InferencePlan> plan,
                   MakeInferencePlan(v1::MODEL_KIND_SEED_CNN, SerializeModel(model), 32, precision));
  constexpr uint32_t kCount = 4;
  const torch::Tensor data = Data(22, {kCount, 32, 32, 3});
  std::copy_n(data.data_ptr<float>(), data.numel(), plan->input());
  std::vector<float> logits(kCount * plan->classes());
  RETURN_IF_ERROR(plan->Run(kCount, logits.data()));
  Hash(hash, logits);
  return absl::OkStatus();
}

absl::StatusOr<Digest> Canary() {
  try {
    PrepareComputeThread();
    Sha256 hash;
    Network(hash, torch::kFloat32);
    Network(hash, torch::kBFloat16);
    HashFusedConvolution(hash);
    Libm(hash);
    Kernels(hash);
    RETURN_IF_ERROR(Plan(hash, v1::PRECISION_FP32));
    // Where bf16 is emulated it is too slow for a canary: the convolutions above stand for it, and
    // a number that is to be raised when our own code changes its bits.
    if (CpuKind() == "avx512_core_bf16" || CpuKind() == "avx512_core_amx") {
      RETURN_IF_ERROR(Plan(hash, v1::PRECISION_BF16));
    } else {
      constexpr std::string_view kEmulated = "emulated bf16 plan 2";
      hash.Update(kEmulated.data(), kEmulated.size());
    }
    const std::string isa = InferenceNumerics();
    hash.Update(isa.data(), isa.size());
    return hash.Finish();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("the canary computation failed: ", error.what()));
  }
}

std::set<std::string> CpuFlags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("flags", 0) == 0) {
      std::istringstream words(line.substr(line.find(':') + 1));
      std::set<std::string> flags;
      for (std::string word; words >> word;) flags.insert(word);
      return flags;
    }
  }
  return {};
}

}  // namespace

void PrepareComputeThread() {
  at::set_num_threads(1);
  UseOneOpenMpThread();
  at::globalContext().setFlushDenormal(true);
}

std::string CpuKind() {
  const std::string torch = at::get_cpu_capability();
  const std::set<std::string> flags = CpuFlags();
  if (torch == "AVX512") {
    if (flags.count("amx_bf16")) return "avx512_core_amx";
    if (flags.count("avx512_bf16")) return "avx512_core_bf16";
    return "avx512";
  }
  if (torch == "AVX2") return "avx2";
  return "default";
}

absl::StatusOr<std::string> NumericsClassOfCpu() {
  absl::StatusOr<Digest> first = absl::InternalError("did not run"), second = first;
  std::thread([&] { first = Canary(); }).join();
  std::thread([&] { second = Canary(); }).join();
  if (!first.ok()) return first.status();
  if (!second.ok()) return second.status();
  if (*first != *second) {
    return absl::InternalError(absl::StrCat(
        "the canary computation gave two results in two runs (", first->short_hex(), " and ",
        second->short_hex(), "): this machine's arithmetic cannot be trusted. Check its memory and "
        "processor, or run the worker elsewhere"));
  }
  std::string onednn = at::get_mkldnn_version();  // "Intel(R) MKL-DNN v3.7.1 (Git Hash ...)"
  if (const size_t at = onednn.find(" v"); at != std::string::npos) onednn = onednn.substr(at + 2);
  onednn = onednn.substr(0, onednn.find(' '));
  return absl::StrCat("cpu/", CpuKind(), "/torch-", TORCH_VERSION, "/onednn-", onednn, "/dnnl-",
                      DnnlVersion(), "/gcc-", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__,
                      "/glibc-", gnu_get_libc_version(), "/", first->hex().substr(0, 16));
}

}  // namespace dermis
