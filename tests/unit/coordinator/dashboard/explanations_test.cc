#include "coordinator/dashboard/explanations.h"

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/simulation/fakes.h"

namespace dermis {
namespace {

using ::testing::ElementsAre;

class ExplanationsTest : public testing::Test {
 protected:
  // Two chunks of two images each, three by two pixels.
  void SetUp() override {
    v1::ImageSetManifest manifest;
    manifest.set_width(3);
    manifest.set_height(2);
    for (int c = 0; c < 2; ++c) {
      std::string pixels;
      for (int i = 0; i < 2; ++i) {
        std::string image;
        for (int b = 0; b < 18; ++b) image.push_back(static_cast<char>(100 * c + 50 * i + b));
        manifest.add_images()->set_digest(Sha256Of(image).bytes());
        pixels += image;
      }
      v1::ImageChunk& chunk = *manifest.add_chunks();
      chunk.set_count(2);
      chunk.set_pixels(blobs_.Put(pixels));
    }
    set_ = *Digest::FromBytes(blobs_.Put(manifest.SerializeAsString()));
  }

  // As the coordinator would have stored it.
  ExplainedBy Store(const v1::Payload& payload, bool as_blob = false) {
    JournalEntry entry;
    entry.task = Sha256Of(payload.SerializeAsString() + "task");
    v1::TaskResult& result = *entry.event.mutable_task_completed()->mutable_result();
    result.set_task(entry.task.bytes());
    if (as_blob) {
      result.set_payload_blob(blobs_.Put(payload.SerializeAsString()));
    } else {
      result.set_payload(payload.SerializeAsString());
    }
    EXPECT_TRUE(journal_.Append({entry}).ok());
    return {entry.task, Digest(), true};
  }

  FakeDisk disk_;
  MemoryJournal journal_{disk_};
  FakeBlobs blobs_;
  Digest set_;
  ExplanationReader reader_{
      journal_, blobs_,
      [this](const Digest& blob, uint64_t offset, uint64_t size) -> absl::StatusOr<std::string> {
        const auto bytes = blobs_.Read(blob);
        return bytes.ok() ? bytes->substr(offset, size) : bytes;
      }};
};

TEST_F(ExplanationsTest, AnImageIsItsOwnPixels_BlueFirst_FromTheBottomUp) {
  const auto bmp = reader_.Image(set_, 3);  // The second one of the second chunk: from 150 on.
  ASSERT_TRUE(bmp.ok()) << bmp.status();
  ASSERT_EQ(bmp->size(), 54u + 2 * 12);  // Rows of nine bytes, padded to twelve.
  EXPECT_EQ(bmp->substr(0, 2), "BM");
  const auto at = [&](size_t i) {
    return static_cast<int>(static_cast<unsigned char>((*bmp)[54 + i]));
  };
  EXPECT_EQ(at(0), 150 + 9 + 2);  // Lower left, blue.
  EXPECT_EQ(at(2), 150 + 9);      // And red.
  EXPECT_EQ(at(9), 0);
  EXPECT_EQ(at(12), 150 + 2);  // Upper left.
}

TEST_F(ExplanationsTest, WhatIsNotThere_OrDamaged_IsSaidSo) {
  EXPECT_TRUE(absl::IsNotFound(reader_.Image(set_, 4).status()));
  EXPECT_TRUE(absl::IsNotFound(reader_.Image(Sha256Of("none"), 0).status()));
  for (auto& [digest, bytes] : blobs_.blobs) {
    if (bytes.size() == 36) bytes[20] ^= 1;
  }
  EXPECT_TRUE(reader_.Image(set_, 0).ok());
  EXPECT_TRUE(absl::IsDataLoss(reader_.Image(set_, 1).status()));
  EXPECT_TRUE(absl::IsNotFound(reader_.Maps({}).status()));
  EXPECT_TRUE(absl::IsNotFound(reader_.Maps({Sha256Of("t"), Digest(), true}).status()));
}

TEST_F(ExplanationsTest, SuperpixelsHaveAValueEach) {
  v1::Payload cut, fit;
  cut.mutable_superpixels()->set_width(2);
  cut.mutable_superpixels()->set_height(1);
  cut.mutable_superpixels()->set_labels(std::string("\0\0\1\0", 4));
  fit.mutable_fit()->add_values(.5);
  fit.mutable_fit()->add_values(-1. / 3);
  ExplainedBy by = Store(fit, true);
  by.superpixels = Store(cut).task;
  const auto maps = reader_.Maps(by);
  ASSERT_TRUE(maps.ok()) << maps.status();
  const auto& map = (*maps)["maps"][0];
  EXPECT_THAT(map["values"].get<std::vector<double>>(), ElementsAre(.5, -.333333));
  std::string labels;
  ASSERT_TRUE(absl::Base64Unescape(map["cells"].get<std::string>(), &labels));
  EXPECT_EQ(labels, cut.superpixels().labels());
}

TEST_F(ExplanationsTest, PixelsCountOverTheirChannels_AndDeepLayersComeFirst) {
  v1::Payload pixels, layers;
  v1::PixelAttribution& gradient = *pixels.mutable_gradient();
  gradient.set_width(2);
  gradient.set_height(1);
  gradient.set_channels(3);
  for (const float value : {1.f, 2.f, 3.f, -1.f, 0.f, .5f}) gradient.add_values(value);
  EXPECT_THAT((*reader_.Maps(Store(pixels)))["maps"][0]["values"].get<std::vector<double>>(),
              ElementsAre(6, -.5));
  for (const char* name : {"conv1", "conv2"}) {
    v1::LayerMaps& layer = *layers.mutable_activations()->add_layers();
    layer.set_layer(name);
    layer.set_width(1);
    layer.set_height(1);
    layer.add_grad_cam(2);
  }
  const auto maps = (*reader_.Maps(Store(layers)))["maps"];
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0]["name"], "conv2");
  EXPECT_EQ(maps[0]["values"][0], 2);
}

}  // namespace
}  // namespace dermis
