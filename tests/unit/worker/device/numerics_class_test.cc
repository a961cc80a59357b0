#include "worker/device/numerics_class.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dermis {
namespace {

TEST(NumericsClassTest, IsStable_AndNamesDeviceLibrariesAndCanary) {
  const absl::StatusOr<std::string> first = NumericsClassOfCpu();
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::StatusOr<std::string> second = NumericsClassOfCpu();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(*first, *second);
  EXPECT_THAT(*first, ::testing::ContainsRegex(
                          "^cpu/[a-z0-9_]+/torch-[0-9.]+/onednn-[0-9.]+/dnnl-[0-9.]+/gcc-[0-9.]+/glibc-[0-9.]+/"
                          "[0-9a-f]+$"));
}

}  // namespace
}  // namespace dermis
