// The GPU as a Device, over a table of functions of the host's; and over the true one where there
// is a GPU.
#include "worker/cuda/cuda_device.h"

#include <cstdlib>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/worker/cuda/shards.h"
#include "worker/cuda/load.h"
#include "worker/cuda/tree_sum_list.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

int query_answer = 0;
int launch_answer = 0;
int streams = 0;
int graphs = 0;

template <typename Functor>
struct Loop {
  static void Run(const void* bytes, uint64_t n) {
    ParallelFor(*static_cast<const Functor*>(bytes), n);
  }
  static constexpr auto value = &Run;
};

CudaLibraryTable HostTable() {
  return {
      kCudaLibraryRelease,
      Functors::kCount,
      [](int* count) { return (*count = 8), 0; },
      [](int, CudaDeviceFacts*) { return 0; },
      [](int ordinal) { return ordinal < 8 ? 0 : 101; },
      [](void** stream) { return (*stream = &streams), ++streams, 0; },
      [](void*) { return --streams, 0; },
      [](int, void*) { return 0; },
      [](int, double) { return 0; },
      [] { return 0; },
      [] { return uint64_t{0}; },
      [](void** memory, uint64_t bytes) {
        if (bytes > 1'000'000) return kCudaOutOfMemory;
        return (*memory = std::malloc(bytes)), 0;
      },
      [](void* memory) { return std::free(memory), 0; },
      [](void** memory, uint64_t bytes) { return (*memory = std::malloc(bytes)), 0; },
      [](void* memory) { return std::free(memory), 0; },
      [](void* to, const void* from, uint64_t bytes, void*) {
        return std::memcpy(to, from, bytes), 0;
      },
      [](uint32_t functor, const void* bytes, uint64_t n, void*) {
        static constexpr auto kLoops = Functors::Table<Loop>();
        return kLoops[functor](bytes, n), launch_answer;
      },
      [](void*, void*) { return 0; },
      [](void*) { return query_answer; },
      [](void*) { return query_answer; },
      [](void** graph) { return (*graph = &graphs), ++graphs, 0; },
      [](void*) { return 0; },
      [](void*) { return kCudaOther; },
      [](void*) { --graphs; },
      [](int) { return "cudaErrorSomething"; },
      [](int) { return "something went wrong"; },
      [] { return "what LibTorch said"; },
  };
}

TEST(CudaDevice, Errors_NameTheGpu_TheAct_AndTheReason) {
  const CudaLibraryTable table = HostTable();
  auto device = CudaDevice::Make(&table, 3, nullptr);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->Allocate(2'000'000).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(CudaDevice::Make(&table, 9, nullptr).status().code(), absl::StatusCode::kUnavailable);
  launch_answer = 700;
  float x = 0;
  const absl::Status status = (*device)->Run(Fill{&x, 1}, 1);
  launch_answer = 0;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("GPU 3: launch a fill"), HasSubstr("cudaErrorSomething"),
                    HasSubstr("something went wrong")));
}

TEST(CudaDevice, ALostContext_IsTold_AndOtherErrorsAreNot) {
  const CudaLibraryTable table = HostTable();
  auto device = CudaDevice::Make(&table, 3, nullptr);
  ASSERT_TRUE(device.ok());
  static std::string told;
  told.clear();
  OnBrokenCuda([](const absl::Status& cause) { told = std::string(cause.message()); });
  float x = 0;
  for (const int error : {1, 2, 98, 701}) {
    launch_answer = error;
    EXPECT_FALSE((*device)->Run(Fill{&x, 1}, 1).ok());
    EXPECT_EQ(told, "") << error;
  }
  launch_answer = 700;
  EXPECT_FALSE((*device)->Run(Fill{&x, 1}, 1).ok());
  launch_answer = 0;
  OnBrokenCuda(nullptr);
  EXPECT_THAT(told, HasSubstr("GPU 3: launch a fill"));
}

TEST(CudaDevice, Idle_TellsNotReady_FromDone_FromFailed) {
  const CudaLibraryTable table = HostTable();
  auto device = CudaDevice::Make(&table, 0, nullptr);
  ASSERT_TRUE(device.ok());
  query_answer = kCudaNotReady;
  EXPECT_EQ(*(*device)->Idle(), false);
  EXPECT_EQ(AwaitIdle(**device, absl::Milliseconds(10)).code(),
            absl::StatusCode::kDeadlineExceeded);
  query_answer = 719;
  EXPECT_EQ((*device)->Idle().status().code(), absl::StatusCode::kUnavailable);
  query_answer = 0;
  EXPECT_EQ(*(*device)->Idle(), true);
}

TEST(CudaDevice, Stream_IsDestroyed_OnlyIfItIsItsOwn) {
  const CudaLibraryTable table = HostTable();
  int callers = 0;
  {
    auto own = CudaDevice::Make(&table, 0, nullptr);
    auto given = CudaDevice::Make(&table, 0, &callers);
    EXPECT_EQ(streams, 1);
    EXPECT_EQ((*given)->stream(), &callers);
  }
  EXPECT_EQ(streams, 0);
}

TEST(CudaDevice, Graph_EndsItsRecording_WhateverHappens_AndIsDestroyed) {
  const CudaLibraryTable table = HostTable();
  auto device = CudaDevice::Make(&table, 0, nullptr);
  ASSERT_TRUE(device.ok());
  {
    const auto graph = (*device)->Record([] { return absl::OkStatus(); });
    ASSERT_TRUE(graph.ok());
    EXPECT_EQ(graphs, 1);
    EXPECT_THAT(std::string((*graph)->Replay().message()),
                AllOf(HasSubstr("GPU 0: replay a graph"), HasSubstr("what LibTorch said")));
  }
  EXPECT_EQ(graphs, 0);
  EXPECT_EQ((*device)->Record([] { return absl::InternalError("no"); }).status().message(), "no");
  EXPECT_THROW(
      (void)(*device)->Record([]() -> absl::Status { throw std::runtime_error("thrown"); }),
      std::runtime_error);
  EXPECT_EQ(graphs, 0);
}

// The sum on `device` of what lies in the host's memory.
std::vector<float> SumOn(Device& device, uint32_t v, uint64_t n, uint64_t seed) {
  Vectors shards = MakeShards(0, v, n, seed);
  DeviceBuffer memory(&device);
  const auto floats = memory.Floats((v + 1) * n);
  EXPECT_TRUE(floats.ok()) << floats.status();
  std::vector<TreeNode> leaves;
  std::vector<const float*> data;
  for (uint32_t k = 0; k < v; ++k) {
    leaves.push_back({k, 1});
    data.push_back(*floats + k * n);
    EXPECT_TRUE(device.Copy(*floats + k * n, shards[k].data(), n * sizeof(float)).ok());
  }
  float* out = *floats + v * n;
  EXPECT_TRUE(device.Run(Fill{out, -1.0f}, n).ok());
  EXPECT_TRUE(device.Run(*MakeTreeSum(leaves, data, out), n).ok());
  std::vector<float> sum(n);
  EXPECT_TRUE(device.Copy(sum.data(), out, n * sizeof(float)).ok());
  EXPECT_TRUE(AwaitIdle(device, absl::Seconds(30)).ok());
  return sum;
}

TEST(CudaDevice, HostDevice_KeepsTheOrderOfWhatIsQueued) {
  const auto device = MakeHostDevice();
  EXPECT_TRUE(SameBits(SumOn(*device, 8, 10'001, 1), LocalSum(8, 10'001, 1)));
}

TEST(CudaDevice, TrueGpu_GivesTheBitsOfTheCpu) {
  const auto gpus = CountGpusOfDriver();
  if (!gpus.ok()) GTEST_SKIP() << gpus.status();
#ifdef DERMIS_CUDA_LIBRARY
  const auto loaded = CudaLibrary::Load(DERMIS_CUDA_LIBRARY);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  auto device = (*loaded)->Open(0);
  ASSERT_TRUE(device.ok()) << device.status();
  for (uint32_t v : {1u, 8u, 64u, 1024u}) {
    EXPECT_TRUE(SameBits(SumOn(**device, v, 10'001, v), LocalSum(v, 10'001, v))) << v;
  }
#else
  GTEST_SKIP() << "built without CUDA";
#endif
}

}  // namespace
}  // namespace dermis
