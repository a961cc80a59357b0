#include "worker/classical/gram_cache.h"

#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace dermis {
namespace {

ImageData Images() {
  ImageData data;
  data.size = 2;
  data.labels = {0, 1, 0};
  data.classes = 2;
  for (int k = 0; k < 3 * 12; ++k) data.pixels.push_back(static_cast<uint8_t>(7 * k));
  return data;
}

TEST(GramCache, SplitsShareTheProducts_UnlessTheyHideByTheirTrainingImages) {
  GramCache cache;
  const ImageData data = Images();
  v1::ImageSource first, second;
  second.set_split_seed(2);
  const auto of_first = *cache.Get(first, data);
  EXPECT_EQ(of_first, *cache.Get(second, data));
  int64_t product = 0;
  for (size_t k = 0; k < 12; ++k) product += data.image(0)[k] * data.image(2)[k];
  EXPECT_EQ(of_first->at(2, 0), product);
  for (v1::ImageSource* source : {&first, &second}) {
    source->mutable_hide()->set_hidden(v1::HIDDEN_VALUE_TRAINING_MEAN);
  }
  EXPECT_NE(*cache.Get(first, data), *cache.Get(second, data));
}

TEST(GramCache, WhoeverComesMeanwhileGetsTheSame) {
  GramCache cache;
  const ImageData data = Images();
  std::vector<std::shared_ptr<const Gram>> found(4);
  std::vector<std::thread> threads;
  for (auto& one : found) {
    threads.emplace_back([&] { one = *cache.Get(v1::ImageSource(), data); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& one : found) EXPECT_EQ(one, found[0]);
}

}  // namespace
}  // namespace dermis
