// Small images whose class is written in them: class 1 is bright on its left half, class 0 on its
// right.
#ifndef DERMIS_TESTS_UNIT_WORKER_TRAINING_TOY_DATA_H_
#define DERMIS_TESTS_UNIT_WORKER_TRAINING_TOY_DATA_H_

#include <cmath>
#include <memory>

#include "common/philox.h"
#include "worker/data/image_source.h"

namespace dermis {

inline std::shared_ptr<ImageData> ToyData(uint32_t training, uint32_t validation,
                                          uint32_t size = 16) {
  auto data = std::make_shared<ImageData>();
  data->size = size;
  data->classes = 2;
  const uint32_t n = training + validation;
  double sum = 0, square = 0;
  for (uint32_t i = 0; i < n; ++i) {
    // Every fourth image validates, so that both parts hold both classes.
    (i % 4 == 3 && data->split.validation.size() < validation ? data->split.validation
                                                              : data->split.training)
        .push_back(i);
    const uint32_t label = (i / 4) % 2;
    data->labels.push_back(label);
    for (uint32_t p = 0; p < size * size; ++p) {
      const auto words = PhiloxBlock(7, Purpose::kTest, i, 0, p);
      const bool left = p % size < size / 2;
      for (int c = 0; c < 3; ++c) {
        const uint8_t v = static_cast<uint8_t>((left == (label == 1) ? 110 : 70) + words[c] % 64);
        data->pixels.push_back(v);
        sum += v;
        square += static_cast<double>(v) * v;
      }
    }
  }
  const double count = static_cast<double>(data->pixels.size());
  data->mean = sum / count;
  data->deviation = std::sqrt(square / count - data->mean * data->mean);
  data->channel_mean = {data->mean, data->mean, data->mean};
  return data;
}

}  // namespace dermis

#endif  // DERMIS_TESTS_UNIT_WORKER_TRAINING_TOY_DATA_H_
