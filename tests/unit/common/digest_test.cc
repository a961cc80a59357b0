#include "common/digest.h"

#include <limits>

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"
#include "google/protobuf/struct.pb.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

std::string HexOf(const google::protobuf::Message& message) {
  absl::StatusOr<std::string> bytes = CanonicalBytes(message);
  if (!bytes.ok()) return bytes.status().ToString();
  std::string hex;
  for (unsigned char c : *bytes) {
    hex += "0123456789abcdef"[c >> 4];
    hex += "0123456789abcdef"[c & 15];
  }
  return hex;
}

TEST(Digest, Sha256_GivesThePublishedAnswers) {
  EXPECT_EQ(Sha256Of("").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Of("abc").hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, Streaming_EqualsOneCall) {
  Sha256 hash;
  hash.Update("a", 1);
  hash.Update("", 0);
  hash.Update("bc", 2);
  EXPECT_EQ(hash.Finish(), Sha256Of("abc"));
}

TEST(Digest, FromBytesAndHex_RoundTrip_AndRefuseOtherSizes) {
  const Digest digest = Sha256Of("x");
  EXPECT_EQ(*Digest::FromBytes(digest.bytes()), digest);
  EXPECT_EQ(*Digest::FromHex(digest.hex()), digest);
  EXPECT_EQ(digest.short_hex(), digest.hex().substr(0, 12));
  EXPECT_TRUE(Digest::FromBytes("")->none());
  EXPECT_FALSE(digest.none());
  EXPECT_FALSE(Digest::FromBytes("short").ok());
  EXPECT_FALSE(Digest::FromHex("").ok());
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'g')).ok());
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'A')).ok()) << "one spelling only";
}

TEST(Canonical, Defaults_AreOmitted_ButPresentOptionalsAreNot) {
  v1::RmspropSpec spec;
  EXPECT_EQ(HexOf(spec), "");
  spec.set_learning_rate(0);  // Present.
  EXPECT_EQ(HexOf(spec), "090000000000000000");
  spec.clear_learning_rate();
  v1::ImageChunk chunk;
  chunk.set_count(0);  // No presence.
  EXPECT_EQ(HexOf(chunk), "");
}

TEST(Canonical, Encoding_IsTheDocumentedOne) {
  v1::ImageEntry entry;
  entry.set_has_mask(true);
  entry.set_label(300);
  entry.set_name("ab");
  auto* attribute = entry.add_attributes();
  attribute->set_key("k");
  entry.add_attributes();
  // name: 1<<3|2, length 2; label: 3<<3, 300; has_mask: 5<<3, 1;
  // attributes: 0, 6<<3|3, count 2, length 3 (1<<3|2, 1, 'k'), length 0.
  EXPECT_EQ(HexOf(entry),
            "0a026162"
            "18ac02"
            "2801"
            "003302"
            "030a016b"
            "00");

  v1::EvaluateOutput output;
  output.add_logits(1.0f);
  output.add_logits(0.0f);  // Default values within repeated fields count.
  EXPECT_EQ(HexOf(output),
            "001502"
            "0000803f"
            "00000000");
}

TEST(Canonical, OneofMembers_AreEncoded_EvenWhenEmpty) {
  v1::SuperpixelSpec none, slic, quickshift;
  slic.mutable_slic();
  quickshift.mutable_quickshift();
  EXPECT_EQ(HexOf(none), "");
  EXPECT_EQ(HexOf(slic), "0b00");
  EXPECT_EQ(HexOf(quickshift), "1300");
  v1::Payload noop;
  noop.set_noop(0);
  EXPECT_EQ(HexOf(noop), "3800");
}

TEST(Canonical, NaNAndNegativeZero_AreRefused_NamingTheField) {
  v1::EpochMetrics metrics;
  metrics.set_validation_loss(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(CanonicalBytes(metrics).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(CanonicalBytes(metrics).status().message().find("validation_loss"), std::string::npos);
  metrics.set_validation_loss(-0.0);
  EXPECT_EQ(CanonicalBytes(metrics).status().code(), absl::StatusCode::kInvalidArgument);
  metrics.set_validation_loss(std::numeric_limits<double>::infinity());
  EXPECT_TRUE(CanonicalBytes(metrics).ok());
  v1::EvaluateOutput output;
  output.add_logits(-0.0f);
  EXPECT_FALSE(CanonicalBytes(output).ok());
}

TEST(Canonical, UnknownFieldsAndMaps_AreRefused) {
  v1::Attribute attribute;
  ASSERT_TRUE(attribute.ParseFromString(std::string("\x98\x06\x01", 3)));  // Field 99.
  EXPECT_EQ(CanonicalBytes(attribute).status().code(), absl::StatusCode::kInvalidArgument);
  v1::ImageEntry entry;
  *entry.add_attributes() = attribute;
  EXPECT_FALSE(CanonicalBytes(entry).ok()) << "nested too";
  google::protobuf::Struct map;
  (*map.mutable_fields())["a"].set_bool_value(true);
  EXPECT_EQ(CanonicalBytes(map).status().code(), absl::StatusCode::kInvalidArgument);
}

// Golden: changes only when addresses change on purpose.
TEST(MessageDigest, IsTheGoldenOne) {
  v1::TaskSpec task;
  task.set_semantics(1);
  task.set_numerics_class("cpu/test");
  task.mutable_noop()->set_index(7);
  EXPECT_EQ(MessageDigest(task)->hex(),
            "4ffbec8c312fcf040b119c9d3093e4ccfab67c7b20f906f69c316aebccfcb09f");
}

TEST(MessageDigest, DependsOnTheMessagesType) {
  EXPECT_NE(*MessageDigest(v1::GradCamSpec()), *MessageDigest(v1::ActivationMapsSpec()));
  EXPECT_EQ(*MessageDigest(v1::GradCamSpec()),
            Sha256Of(std::string_view("dermis.v1.GradCamSpec\0", 22)));
}

}  // namespace
}  // namespace dermis
