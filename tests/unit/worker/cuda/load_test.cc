#include "worker/cuda/load.h"

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Load, NoDriver_IsAPlainNoGpu) {
  for (const char* driver : {"libcuda-that-is-nowhere.so.1", "libm.so.6"}) {
    const auto gpus = CountGpusOfDriver(driver);
    EXPECT_EQ(gpus.status().code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(gpus.status().message()), StartsWith("no GPU: "));
    EXPECT_THAT(std::string(gpus.status().message()), HasSubstr(driver));
  }
}

TEST(Load, FindGpus_LoadsNothing_WhereTheDriverShowsNoDevice) {
  const auto gpus = CountGpusOfDriver();
  const auto library = FindGpus("libdermis_cuda-that-is-nowhere.so");
  // Without a device the library is not even looked for.
  EXPECT_EQ(library.status().code(),
            gpus.ok() ? absl::StatusCode::kFailedPrecondition : absl::StatusCode::kNotFound);
}

TEST(Load, MissingOrForeignLibrary_IsNamed) {
  const auto missing = CudaLibrary::Load("libdermis_cuda-that-is-nowhere.so");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("that-is-nowhere"));
  EXPECT_EQ(CudaLibrary::Load("libm.so.6").status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Load, CudaLibraryPath_IsBesideTheProgram) {
  EXPECT_THAT(CudaLibraryPath(), StartsWith("/"));
  EXPECT_THAT(CudaLibraryPath(), HasSubstr("/libdermis_cuda.so"));
}

TEST(Load, BuiltLibrary_Loads_AndCountsTheDevicesOfTheDriver) {
#ifdef DERMIS_CUDA_LIBRARY
  const auto library = CudaLibrary::Load(DERMIS_CUDA_LIBRARY);
  if (absl::IsFailedPrecondition(library.status()) &&
      absl::StrContains(library.status().message(), "cannot open shared object file")) {
    GTEST_SKIP() << "LibTorch's GPU half needs what is not here (tools/setup --gpu): "
                 << library.status();
  }
  ASSERT_TRUE(library.ok()) << library.status();
  const auto count = (*library)->device_count();
  ASSERT_TRUE(count.ok()) << count.status();
  const auto gpus = CountGpusOfDriver();
  EXPECT_EQ(*count, gpus.ok() ? *gpus : 0);
  EXPECT_EQ((*library)->Open(*count).status().code(), absl::StatusCode::kUnavailable);
#else
  GTEST_SKIP() << "built without CUDA";
#endif
}

}  // namespace
}  // namespace dermis
