#include "worker/cuda/list_gpus.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;

TEST(ListGpus, NoDriver_IsNoGpu) {
  EXPECT_TRUE(ListGpus("libcuda-that-is-nowhere.so.1").empty());
  EXPECT_TRUE(ListGpus("libm.so.6").empty());
}

TEST(ListGpus, AGpuThatOthersUse_IsSaidToBe) {
  EXPECT_THAT(ListGpus(DERMIS_GPU_STAND_IN, DERMIS_GPU_STAND_IN),
              ElementsAre(AllOf(Field(&ListedGpu::ordinal, 0), Field(&ListedGpu::name, "Stand-in 0"),
                                Field(&ListedGpu::in_use, false)),
                          Field(&ListedGpu::in_use, true), Field(&ListedGpu::in_use, false)));
}

TEST(ListGpus, WithoutManagement_NoneIsInUse) {
  for (const ListedGpu& gpu : ListGpus(DERMIS_GPU_STAND_IN, "libnvidia-that-is-nowhere.so.1")) {
    EXPECT_FALSE(gpu.in_use);
  }
}

}  // namespace
}  // namespace dermis
