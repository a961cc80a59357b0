// Images and models without files: for the tests of the explanation engine.
#ifndef DERMIS_TESTS_UNIT_WORKER_EXPLAIN_TEST_DATA_H_
#define DERMIS_TESTS_UNIT_WORKER_EXPLAIN_TEST_DATA_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/philox.h"
#include "common/resize.h"
#include "worker/data/image_source.h"
#include "worker/plan/inference_plan.h"

namespace dermis {

// Blobs of colour with noise; another for each seed.
inline std::string TestPixels(uint64_t seed, uint32_t height, uint32_t width) {
  std::string rgb;
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      const auto block = PhiloxBlock(seed, Purpose::kTest, y, x, 0);
      const bool inside = (x / 25 + y / 23 + seed) % 2 == 0;
      for (int c = 0; c < 3; ++c) {
        rgb.push_back(static_cast<char>((inside ? 100 : 116) + 20 * c + block[c] % 8));
      }
    }
  }
  return rgb;
}

class TestImageSet final : public ImageSet {
 public:
  TestImageSet(uint32_t images, uint32_t height, uint32_t width) {
    manifest_.set_height(height);
    manifest_.set_width(width);
    for (uint32_t i = 0; i < images; ++i) {
      manifest_.add_images();
      pixels_.push_back(TestPixels(i, height, width));
    }
  }
  absl::StatusOr<std::string_view> Pixels(uint32_t i) const override { return pixels_.at(i); }
  absl::StatusOr<std::string_view> Mask(uint32_t) const override {
    return absl::NotFoundError("no mask");
  }
  absl::StatusOr<std::string_view> ChunkBytes(const Digest&) const override {
    return absl::NotFoundError("no chunk");
  }

 private:
  std::vector<std::string> pixels_;
};

inline ImageData TestImageData(uint32_t images, uint32_t height, uint32_t width, uint32_t size) {
  ImageData data;
  data.set = std::make_shared<TestImageSet>(images, height, width);
  data.size = size;
  data.pixels.resize(size_t{images} * size * size * 3);
  for (uint32_t i = 0; i < images; ++i) {
    AreaResizeBytes(reinterpret_cast<const uint8_t*>(data.set->Pixels(i)->data()),
                    static_cast<int>(height), static_cast<int>(width), 3,
                    data.pixels.data() + size_t{i} * size * size * 3, static_cast<int>(size),
                    static_cast<int>(size));
  }
  data.classes = 2;
  data.mean = 131.7;
  data.deviation = 47.3;
  data.channel_mean = {120.25, 99.5, 141.125};
  return data;
}

// A plan that computes logits by a given function and remembers its inputs. Batch of 5: never a divisor of
// the number of masks.
class FunctionPlan final : public InferencePlan {
 public:
  using Function = std::function<std::pair<double, double>(const std::vector<float>&)>;
  FunctionPlan(uint32_t size, Function function)
      : size_(size), function_(std::move(function)), input_(size_t{5} * size * size * 3) {}
  uint32_t classes() const override { return 2; }
  uint32_t size() const override { return size_; }
  uint32_t max_batch() const override { return 5; }
  float* input() override { return input_.data(); }
  absl::Status Run(uint32_t count, float* logits) override {
    const size_t n = size_t{size_} * size_ * 3;
    for (uint32_t b = 0; b < count; ++b) {
      inputs.emplace_back(input_.begin() + b * n, input_.begin() + (b + 1) * n);
      const auto [benign, malignant] = function_(inputs.back());
      logits[2 * b] = static_cast<float>(benign);
      logits[2 * b + 1] = static_cast<float>(malignant);
    }
    std::fill(input_.begin(), input_.end(), -1e30f);  // Nothing may be left over for the next batch.
    return absl::OkStatus();
  }
  std::vector<std::vector<float>> inputs;

 private:
  uint32_t size_;
  Function function_;
  std::vector<float> input_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_EXPLAIN_TEST_DATA_H_
