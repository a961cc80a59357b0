// A seed_cnn model file with arbitrary weights, for tests that need a plan and no Torch.
#ifndef DERMIS_TESTS_UNIT_WORKER_PLAN_MODEL_BYTES_H_
#define DERMIS_TESTS_UNIT_WORKER_PLAN_MODEL_BYTES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dermis {

struct TestTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using TestModel = std::map<std::string, TestTensor>;

// Weights of about the scale that a trained network has; running statistics away from 0 and 1.
TestModel MakeTestModel(uint64_t seed, uint32_t size, uint32_t classes);
std::string ModelBytes(const TestModel& model);

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_PLAN_MODEL_BYTES_H_
