#include "tests/unit/worker/plan/model_bytes.h"

#include <cmath>
#include <string_view>

#include "common/philox.h"
#include "common/safetensors.h"

namespace dermis {

TestModel MakeTestModel(uint64_t seed, uint32_t size, uint32_t classes) {
  TestModel model;
  uint32_t index = 0;
  const auto add = [&](const std::string& name, const std::vector<int64_t>& shape, float low,
                       float high) {
    TestTensor& tensor = model[name];
    tensor.shape = shape;
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t word =
          PhiloxBlock(seed, Purpose::kTest, index, 0, static_cast<uint32_t>(i))[0];
      tensor.values.push_back(low + (high - low) * ToUnitFloat(word));
    }
    ++index;
  };
  const int64_t channels[7] = {3, 32, 32, 64, 64, 128, 128};
  for (int i = 0; i < 6; ++i) {
    const std::string n = std::to_string(i + 1);
    const int64_t in = channels[i], out = channels[i + 1];
    const float scale = std::sqrt(6.0f / static_cast<float>(9 * in));
    add("conv" + n + ".weight", {out, in, 3, 3}, -scale, scale);
    add("conv" + n + ".bias", {out}, -0.2f, 0.2f);
    add("bn" + n + ".weight", {out}, 0.5f, 1.5f);
    add("bn" + n + ".bias", {out}, -0.5f, 0.5f);
    add("bn" + n + ".running_mean", {out}, -0.5f, 0.5f);
    add("bn" + n + ".running_var", {out}, 0.5f, 2.0f);
  }
  const int64_t features = int64_t{128} * (size / 8) * (size / 8);
  const float scale = std::sqrt(3.0f / static_cast<float>(features));
  add("dense.weight", {classes, features}, -scale, scale);
  add("dense.bias", {classes}, -0.1f, 0.1f);
  return model;
}

std::string ModelBytes(const TestModel& model) {
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : model) {
    views[name] = {"F32", tensor.shape,
                   std::string_view(reinterpret_cast<const char*>(tensor.values.data()),
                                    tensor.values.size() * sizeof(float))};
  }
  return SerializeSafetensors(views, {{"model", "seed_cnn"}});
}

}  // namespace dermis
