#include "tools/dermis/study_file.h"

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class StudyFileTest : public ::testing::Test {
 protected:
  std::string ErrorOf(const std::string& yaml, const std::vector<std::string>& settings = {}) {
    std::ofstream(folder_ / "s.yaml") << yaml;
    return std::string(ReadStudy(folder_ / "s.yaml", settings).status().message());
  }

  TestFolder folder_;
};

TEST_F(StudyFileTest, AValueOutOfRange_IsToldWithItsLine_UnlessItIsASetting) {
  const std::string path = folder_ / "s.yaml";
  EXPECT_EQ(ErrorOf("name: a\ntraining:\n  epochs: 2000000\n"),
            path + ":3:3: 'training.epochs' is 2,000,000; it must be from 1 to 1,000,000");
  EXPECT_THAT(ErrorOf("name: a\nexplanation:\n  methods: [grad_cam, lime: {samples: 3}]\n"),
              StartsWith(path + ":3:30: 'explanation.methods[1].lime.samples' is 3"));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {epochs: 5}\n", {"training.epochs=2000000"}),
              StartsWith(path + ": 'training.epochs' is"));
}

TEST_F(StudyFileTest, AFileThatIsTooLong_OrHasNoEnd_IsRefused_BeforeItIsHeldInMemory) {
  std::ofstream(folder_ / "huge").flush();
  std::filesystem::resize_file(folder_ / "huge", uint64_t{1} << 40);
  for (const std::string& study : {folder_ / "huge", std::string("/dev/zero")}) {
    EXPECT_THAT(std::string(ReadStudy(study).status().message()),
                StartsWith(study + " has more than 1 MiB"));
  }
  EXPECT_THAT(ErrorOf("name: a\nimages: {set: x}\nmodel: {file: huge}\n"),
              HasSubstr("huge has more than 4096 MiB"));
}

// As torch.save and torch.jit.save make them, by the names in their zips.
TEST_F(StudyFileTest, ACheckpointOfPyTorch_IsKnown_AndTorchScriptIsNone) {
  const auto zip = [](const std::string& names) { return absl::StrCat("PK\3\4 r18", names); };
  const std::string checkpoint = zip("/data.pkl r18/data/0 r18/version");
  EXPECT_TRUE(CheckIsNoPickle("m.pt", zip("/data.pkl r18/code/__torch__.py r18/constants.pkl")).ok());
  EXPECT_TRUE(CheckIsNoPickle("m.onnx", "\x08\x07").ok());
  EXPECT_TRUE(CheckIsNoPickle("m", "").ok());
  EXPECT_FALSE(CheckIsNoPickle("m.pth", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.").ok());
  std::ofstream(folder_ / "r18.pth", std::ios::binary) << checkpoint;
  for (const char* use : {"model: {file: r18.pth}", "training: {model: resnet18, init: {file: r18.pth}}"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("name: a\n", use, "\n")),
                AllOf(HasSubstr("r18.pth is a PyTorch checkpoint"), HasSubstr("save_file(torch.load('r18.pth'"),
                      HasSubstr("docs/explain.md")));
  }
}

}  // namespace
}  // namespace dermis
