// The true NCCL on the true GPU: one rank, since a GPU takes no more. What more ranks do is tested
// with a stand-in (tests/unit/worker/cuda).
#include <vector>

#include "gtest/gtest.h"

#include "tests/unit/worker/cuda/shards.h"
#include "tests/unit/worker/gpu/devices.h"
#include "worker/cuda/nccl_api.h"
#include "worker/cuda/nccl_collective.h"

namespace dermis {
namespace {

class NcclGpuTest : public testing::TestWithParam<NcclReduction> {
 protected:
  void SetUp() override {
    if (TestGpus() == nullptr) GTEST_SKIP() << "no GPU";
    device_ = OpenTestDevice("Gpu");
    auto api = NcclApi::Load();
    ASSERT_TRUE(api.ok()) << api.status();
    auto collective = NcclCollective::Create(*api, device_.get(), MakeLocalCollective(kShards),
                                             {.reduction = GetParam()});
    ASSERT_TRUE(collective.ok()) << collective.status();
    collective_ = *std::move(collective);
  }

  static constexpr uint32_t kShards = 4;
  static constexpr uint64_t kFloats = 100'003;
  std::unique_ptr<Device> device_;
  std::unique_ptr<NcclCollective> collective_;
};
INSTANTIATE_TEST_SUITE_P(Reductions, NcclGpuTest,
                         testing::Values(NcclReduction::kOrdered, NcclReduction::kFast));

TEST_P(NcclGpuTest, OneRank_GivesTheBitsOfTheProcessor_AgainAndAgain) {
  Vectors shards = MakeShards(0, kShards, kFloats, 3);
  DeviceBuffer memory(device_.get());
  const auto floats = memory.Floats((kShards + 1) * kFloats);
  ASSERT_TRUE(floats.ok());
  for (int k = 0; k < 3; ++k) {
    std::vector<float*> there;
    for (uint32_t s = 0; s < kShards; ++s) {
      there.push_back(*floats + s * kFloats);
      ASSERT_TRUE(device_->Copy(there[s], shards[s].data(), kFloats * sizeof(float)).ok());
    }
    float* const out = *floats + kShards * kFloats;
    const absl::Status reduced = collective_->OrderedReduce(there, kFloats, out);
    ASSERT_TRUE(reduced.ok()) << reduced;
    std::vector<float> sum(kFloats);
    ASSERT_TRUE(device_->Copy(sum.data(), out, kFloats * sizeof(float)).ok());
    ASSERT_TRUE(device_->Finish().ok());
    EXPECT_TRUE(SameBits(sum, LocalSum(kShards, kFloats, 3)));
  }
}

TEST_P(NcclGpuTest, Abort_EndsIt) {
  collective_->Abort(absl::CancelledError("enough"));
  DeviceBuffer memory(device_.get());
  const auto floats = memory.Floats(2 * kFloats);
  ASSERT_TRUE(floats.ok());
  std::vector<float*> there(kShards, *floats);
  EXPECT_FALSE(collective_->OrderedReduce(there, kFloats, *floats + kFloats).ok());
}

}  // namespace
}  // namespace dermis
