#include "tools/ingest/decode.h"

#include <turbojpeg.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resize.h"
#include "common/status_macros.h"
#include "opencv2/core.hpp"
#include "opencv2/imgcodecs.hpp"
#include "opencv2/imgproc.hpp"

namespace dermis {
namespace {

constexpr int64_t kMaxPixels = 100'000'000;

bool IsJpeg(std::string_view file) { return file.substr(0, 3) == "\xFF\xD8\xFF"; }
bool IsPng(std::string_view file) { return file.substr(0, 8) == "\x89PNG\r\n\x1A\n"; }

uint32_t BigEndian32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

absl::Status CheckPixels(int64_t width, int64_t height) {
  if (width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels) {
    return absl::InvalidArgumentError(
        absl::StrCat(width, " x ", height, " pixels is more than 100 megapixels"));
  }
  return absl::OkStatus();
}

// OpenCV fills what is missing of a cut JPEG with grey and says nothing: decode strictly first.
absl::Status CheckJpeg(std::string_view file) {
  std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  const auto* bytes = reinterpret_cast<const unsigned char*>(file.data());
  int width = 0, height = 0, subsampling = 0, space = 0;
  if (tjDecompressHeader3(decoder.get(), bytes, file.size(), &width, &height, &subsampling, &space)) {
    return absl::InvalidArgumentError(
        absl::StrCat("damaged JPEG: ", tjGetErrorStr2(decoder.get())));
  }
  RETURN_IF_ERROR(CheckPixels(width, height));
  std::vector<unsigned char> pixels(size_t(width) * height * 4);
  const int format = space == TJCS_CMYK || space == TJCS_YCCK ? TJPF_CMYK : TJPF_RGBX;
  if (tjDecompress2(decoder.get(), bytes, file.size(), pixels.data(), width, 0, height, format,
                    TJFLAG_STOPONWARNING)) {
    return absl::InvalidArgumentError(
        absl::StrCat("damaged JPEG: ", tjGetErrorStr2(decoder.get())));
  }
  return absl::OkStatus();
}

// Likewise for a PNG: it must end with its IEND chunk, and every chunk before it be whole.
absl::Status CheckPng(std::string_view file) {
  if (file.size() < 33) return absl::InvalidArgumentError("damaged PNG: cut short");
  RETURN_IF_ERROR(CheckPixels(BigEndian32(file.substr(16)), BigEndian32(file.substr(20))));
  size_t at = 8;
  while (at + 12 <= file.size()) {
    const uint64_t length = BigEndian32(file.substr(at));
    if (length > file.size() - at - 12) break;
    if (file.substr(at + 4, 4) == "IEND") return absl::OkStatus();
    at += 12 + length;
  }
  return absl::InvalidArgumentError("damaged PNG: cut short");
}

absl::StatusOr<cv::Mat> Decode(std::string_view file, int flags) {
  if (IsJpeg(file)) {
    RETURN_IF_ERROR(CheckJpeg(file));
  } else if (IsPng(file)) {
    RETURN_IF_ERROR(CheckPng(file));
  } else {
    return absl::InvalidArgumentError("neither a JPEG nor a PNG");
  }
  cv::Mat image;
  try {  // OpenCV reports some damages by exceptions.
    const cv::Mat bytes(1, static_cast<int>(file.size()), CV_8U, const_cast<char*>(file.data()));
    image = cv::imdecode(bytes, flags);
  } catch (const cv::Exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("damaged: ", e.err));
  }
  if (image.empty()) return absl::InvalidArgumentError("damaged: cannot be decoded");
  return image;
}

// The input's row or column, of `in`, at the centre of the output's, of `out`.
int Nearest(uint32_t at, int in, uint32_t out) {
  return static_cast<int>((2 * at + 1) * uint64_t(in) / (2 * uint64_t{out}));
}

cv::Mat CentreSquare(const cv::Mat& image) {
  const int side = std::min(image.rows, image.cols);
  return image(cv::Rect((image.cols - side) / 2, (image.rows - side) / 2, side, side)).clone();
}

}  // namespace

absl::StatusOr<std::string> DecodeImage(std::string_view file, uint32_t size) {
  ASSIGN_OR_RETURN(const cv::Mat decoded, Decode(file, cv::IMREAD_COLOR));
  cv::Mat square = CentreSquare(decoded);
  cv::cvtColor(square, square, cv::COLOR_BGR2RGB);
  const int out = static_cast<int>(size);
  if (square.rows < out) cv::resize(square, square, cv::Size(out, out), 0, 0, cv::INTER_LINEAR);
  std::string pixels(size_t(size) * size * 3, '\0');
  AreaResizeBytes(square.data, square.rows, square.cols, 3, reinterpret_cast<uint8_t*>(pixels.data()),
                  out, out);
  return pixels;
}

absl::StatusOr<std::string> DecodeMask(std::string_view file, uint32_t size) {
  ASSIGN_OR_RETURN(const cv::Mat decoded, Decode(file, cv::IMREAD_GRAYSCALE));
  const cv::Mat square = CentreSquare(decoded);
  std::string mask(size_t(size) * size, '\0');
  for (uint32_t y = 0; y < size; ++y) {
    for (uint32_t x = 0; x < size; ++x) {
      mask[size_t(y) * size + x] =
          square.at<uint8_t>(Nearest(y, square.rows, size), Nearest(x, square.cols, size)) >= 128;
    }
  }
  return mask;
}

absl::StatusOr<std::string> DecodeLabels(std::string_view file, uint32_t size) {
  ASSIGN_OR_RETURN(const cv::Mat decoded, Decode(file, cv::IMREAD_UNCHANGED));
  if (decoded.channels() != 1 || (decoded.depth() != CV_8U && decoded.depth() != CV_16U)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", decoded.channels(), " channels; a label map is a grey PNG of 8 or 16 bits"));
  }
  const cv::Mat square = CentreSquare(decoded);
  std::string labels;
  labels.reserve(size_t(size) * size * 2);
  for (uint32_t y = 0; y < size; ++y) {
    for (uint32_t x = 0; x < size; ++x) {
      const int sy = Nearest(y, square.rows, size), sx = Nearest(x, square.cols, size);
      const uint16_t label =
          square.depth() == CV_8U ? square.at<uint8_t>(sy, sx) : square.at<uint16_t>(sy, sx);
      labels.push_back(static_cast<char>(label & 0xFF));
      labels.push_back(static_cast<char>(label >> 8));
    }
  }
  return labels;
}

}  // namespace dermis
