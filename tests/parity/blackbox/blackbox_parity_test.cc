// Files that PyTorch wrote give what PyTorch gives (goldens: make_goldens.py), whatever runs beside
// and before them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "worker/blackbox/foreign.h"
#include "worker/device/numerics_class.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kSize = 16;
constexpr size_t kValues = size_t{kSize} * kSize * 3;

std::string Read(const std::string& name) {
  const char* source = std::getenv("DERMIS_SOURCE_DIR");
  std::ifstream in(std::string(source == nullptr ? "." : source) + "/tests/parity/blackbox/" + name,
                   std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  EXPECT_FALSE(bytes.str().empty()) << name;
  return bytes.str();
}

ForeignOptions Allowed() {
  const char* build = std::getenv("DERMIS_BUILD_DIR");
  return {
      .allow_torchscript = true,
      .onnx_library = std::string(build == nullptr ? "build" : build) + "/bin/libdermis_onnx.so"};
}

v1::ForeignModel ModelOf(v1::ModelFormat format,
                         v1::ModelOutputs outputs = v1::MODEL_OUTPUTS_LOGITS) {
  v1::ForeignModel model;
  model.set_format(format);
  model.set_outputs(outputs);
  v1::ModelInputSpec& input = *model.mutable_input();
  input.set_range(1);
  input.set_channels(v1::CHANNEL_ORDER_RGB);
  for (const double v : {.485, .456, .406}) input.add_mean(v);
  for (const double v : {.229, .224, .225}) input.add_deviation(v);
  return model;
}

// make_goldens.py's pixels(), as NHWC.
void FillPixels(int image, float* out) {
  for (int y = 0; y < static_cast<int>(kSize); ++y) {
    for (int x = 0; x < static_cast<int>(kSize); ++x) {
      for (int c = 0; c < 3; ++c) {
        *out++ = static_cast<float>((7 * y + 13 * x * (image + 1) + 29 * c + 3 * y * x) % 256);
      }
    }
  }
}

// Logits of both images, in one batch.
std::vector<float> LogitsOf(InferencePlan& plan) {
  for (int image = 0; image < 2; ++image) FillPixels(image, plan.input() + image * kValues);
  std::vector<float> logits(2 * plan.classes());
  EXPECT_TRUE(plan.Run(2, logits.data()).ok());
  return logits;
}

struct File {
  const char* name;
  v1::ModelFormat format;
};

class ClassifierTest : public ::testing::TestWithParam<File> {
 protected:
  void SetUp() override {
    PrepareComputeThread();
    auto plan =
        MakeForeignPlan(ModelOf(GetParam().format), Read(GetParam().name), kSize, Allowed());
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = *std::move(plan);
  }
  std::unique_ptr<InferencePlan> plan_;
};

TEST_P(ClassifierTest, GivesWhatPyTorchGives) {
  const auto golden = nlohmann::json::parse(Read("outputs.json"))["classifier"];
  ASSERT_EQ(plan_->classes(), 3u);
  const std::vector<float> logits = LogitsOf(*plan_);
  for (int image = 0; image < 2; ++image) {
    // Sums of about 128 products of order 1 in fp32, in another order.
    for (int c = 0; c < 3; ++c) {
      EXPECT_NEAR(logits[image * 3 + c], golden[image][c].get<double>(), 2e-6);
    }
  }
}

TEST_P(ClassifierTest, HasTheSameBits_AtAnyPlaceOfABatch_AndAfterManyRuns) {
  const std::vector<float> once = LogitsOf(*plan_);
  // TorchScript's executor specialises itself after some runs, if it is let.
  for (int repeat = 0; repeat < 20; ++repeat) ASSERT_EQ(LogitsOf(*plan_), once) << repeat;
  constexpr int kBatch = 7;
  for (int b = 0; b < kBatch; ++b) FillPixels(b == 5 ? 1 : 0, plan_->input() + b * kValues);
  std::vector<float> logits(kBatch * 3);
  ASSERT_TRUE(plan_->Run(kBatch, logits.data()).ok());
  for (int c = 0; c < 3; ++c) {
    EXPECT_EQ(logits[3 + c], once[c]);
    EXPECT_EQ(logits[5 * 3 + c], once[3 + c]);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, ClassifierTest,
                         ::testing::Values(File{"classifier.pt", v1::MODEL_FORMAT_TORCHSCRIPT},
                                           File{"classifier.onnx", v1::MODEL_FORMAT_ONNX}),
                         [](const auto& info) {
                           return info.param.format == v1::MODEL_FORMAT_ONNX ? "onnx"
                                                                             : "torchscript";
                         });

TEST(ScriptedTest, OneProbabilityBecomesTwoLogits_AndBranchesAreTaken) {
  const auto plan =
      MakeForeignPlan(ModelOf(v1::MODEL_FORMAT_TORCHSCRIPT, v1::MODEL_OUTPUTS_PROBABILITIES),
                      Read("scripted.pt"), kSize, Allowed());
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ((*plan)->classes(), 2u);
  const auto golden = nlohmann::json::parse(Read("outputs.json"))["scripted"];
  const std::vector<float> logits = LogitsOf(**plan);
  for (int image = 0; image < 2; ++image) {
    const double p = golden[image][0].get<double>();
    EXPECT_EQ(logits[2 * image], 0);
    EXPECT_NEAR(logits[2 * image + 1], std::log(p / (1 - p)), 1e-5);
  }
}

std::string ErrorOf(v1::ModelFormat format, const std::string& bytes, uint32_t size = kSize) {
  const auto plan = MakeForeignPlan(ModelOf(format), bytes, size, Allowed());
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument) << plan.status();
  return std::string(plan.status().message());
}

TEST(ForeignErrorsTest, AStateDictIsNoModel_AndTheErrorSaysWhatWouldBe) {
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_TORCHSCRIPT, Read("not_a_model.pt")),
              AllOf(HasSubstr("state dict"), HasSubstr("torch.jit.trace")));
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_TORCHSCRIPT, "no zip at all"), HasSubstr("torch.jit.save"));
}

TEST(ForeignErrorsTest, DamagedOnnxIsAnError_NotACrash) {
  const std::string good = Read("classifier.onnx");
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_ONNX, "no onnx at all"), HasSubstr("no ONNX that OpenCV"));
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_ONNX, ""), HasSubstr("no ONNX that OpenCV"));
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_ONNX, good.substr(0, good.size() / 2)),
              HasSubstr("no ONNX that OpenCV"));
}

TEST(ForeignErrorsTest, AnotherInputSizeIsNamed) {
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_TORCHSCRIPT, Read("classifier.pt"), 24),
              HasSubstr("1 x 3 x 24 x 24"));
  EXPECT_THAT(ErrorOf(v1::MODEL_FORMAT_ONNX, Read("classifier.onnx"), 24),
              HasSubstr("1 x 3 x 24 x 24"));
}

TEST(ForeignErrorsTest, WithoutTheLibrary_ThisWorkerIsBlamed_NotTheTask) {
  ForeignOptions options = Allowed();
  options.onnx_library = "/nowhere/libdermis_onnx.so";
  const auto plan =
      MakeForeignPlan(ModelOf(v1::MODEL_FORMAT_ONNX), Read("classifier.onnx"), kSize, options);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(plan.status().message()), HasSubstr("libopencv-dnn"));
}

}  // namespace
}  // namespace dermis
