#include "worker/explain/superpixels.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/philox.h"
#include "tests/unit/worker/explain/test_data.h"
#include "worker/explain/explain.h"

namespace dermis {
namespace {

const uint8_t* Bytes(const std::string& s) { return reinterpret_cast<const uint8_t*>(s.data()); }

void ExpectDense(const Segmentation& s) {
  const std::set<uint32_t> present(s.labels.begin(), s.labels.end());
  EXPECT_EQ(present.size(), s.count);
  EXPECT_EQ(*present.rbegin(), s.count - 1);
  EXPECT_EQ(s.labels.size(), size_t(s.height) * s.width);
}

// Number of connected pieces (four neighbours) over all labels.
size_t Pieces(const Segmentation& s) {
  std::vector<bool> seen(s.labels.size(), false);
  size_t pieces = 0;
  for (size_t start = 0; start < seen.size(); ++start) {
    if (seen[start]) continue;
    ++pieces;
    std::vector<size_t> stack = {start};
    seen[start] = true;
    while (!stack.empty()) {
      const size_t i = stack.back();
      stack.pop_back();
      const int y = static_cast<int>(i) / s.width, x = static_cast<int>(i) % s.width;
      const auto visit = [&](int yy, int xx) {
        if (yy < 0 || xx < 0 || yy >= s.height || xx >= s.width) return;
        const size_t j = size_t(yy) * s.width + xx;
        if (!seen[j] && s.labels[j] == s.labels[i]) {
          seen[j] = true;
          stack.push_back(j);
        }
      };
      visit(y - 1, x), visit(y + 1, x), visit(y, x - 1), visit(y, x + 1);
    }
  }
  return pieces;
}

TEST(Slic, GivesConnectedSuperpixels_OfAboutTheNumberAsked) {
  const std::string rgb = TestPixels(3, 96, 120);
  for (int count : {10, 50, 100}) {
    const Segmentation s = Slic(Bytes(rgb), 96, 120, {count, 10, 1});
    ExpectDense(s);
    EXPECT_EQ(Pieces(s), s.count);
    EXPECT_GE(s.count, count / 2);
    EXPECT_LE(s.count, count * 2);
  }
}

TEST(Slic, FlatAndTinyImages_AreCutWithoutHarm) {
  const std::string flat(64 * 64 * 3, 'x');
  const Segmentation s = Slic(Bytes(flat), 64, 64, {16, 10, 1});
  ExpectDense(s);
  EXPECT_EQ(s.count, 16u);
  const std::string tiny = TestPixels(1, 2, 3);
  ExpectDense(Slic(Bytes(tiny), 2, 3, {50, 10, 1}));
  ExpectDense(Slic(Bytes(tiny), 1, 1, {1, 10, 3}));
  ExpectDense(Slic(Bytes(tiny), 1, 6, {2, 10, 0}));
}

TEST(Quickshift, BreaksTiesTheSameWayEveryTime) {
  // A flat image is all ties inside.
  const std::string flat(40 * 40 * 3, 'x');
  const Segmentation a = Quickshift(Bytes(flat), 40, 40, {4, 200, 0.2});
  ExpectDense(a);
  EXPECT_EQ(a.labels, Quickshift(Bytes(flat), 40, 40, {4, 200, 0.2}).labels);
}

TEST(Quickshift, SmallMaxDist_CutsMore) {
  const std::string rgb = TestPixels(5, 48, 48);
  const Segmentation coarse = Quickshift(Bytes(rgb), 48, 48, {4, 200, 0.2});
  const Segmentation fine = Quickshift(Bytes(rgb), 48, 48, {4, 3, 0.2});
  ExpectDense(coarse);
  ExpectDense(fine);
  EXPECT_GT(fine.count, coarse.count);
}

TEST(SuperpixelProto, RoundTrips_AndRefusesBadLabels) {
  const Segmentation s{2, 3, 300, {0, 1, 299, 298, 256, 255}};
  auto proto = ToProto(s);
  ASSERT_TRUE(proto.ok());
  EXPECT_EQ(proto->labels().size(), 12u);
  const auto back = FromProto(*proto);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->labels, s.labels);
  proto->set_count(299);
  EXPECT_FALSE(FromProto(*proto).ok());
  proto->set_count(300);
  proto->set_height(3);
  EXPECT_FALSE(FromProto(*proto).ok());
  EXPECT_FALSE(ToProto({1, 1, 65537, {0}}).ok());
}

TEST(RunSuperpixels, RefusesWhatMakesNoSense_NamingTheImage) {
  const TestImageSet set(2, 24, 24);
  v1::SuperpixelTask task;
  task.set_image(1);
  EXPECT_FALSE(RunSuperpixels(task, set).ok());
  task.mutable_superpixels()->mutable_slic()->set_count(0);
  EXPECT_FALSE(RunSuperpixels(task, set).ok());
  task.mutable_superpixels()->mutable_slic()->set_count(6);
  EXPECT_TRUE(RunSuperpixels(task, set).ok());
  task.mutable_superpixels()->mutable_quickshift()->set_ratio(1.5);
  EXPECT_FALSE(RunSuperpixels(task, set).ok());
  task.mutable_superpixels()->mutable_quickshift()->set_ratio(0.5);
  const auto output = RunSuperpixels(task, set);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE(FromProto(*output).ok());
  task.set_image(2);
  EXPECT_NE(RunSuperpixels(task, set).status().ToString().find("image 2"), std::string::npos);
}

}  // namespace
}  // namespace dermis
