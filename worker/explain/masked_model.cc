#include "worker/explain/masked_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/background.h"
#include "common/metrics.h"
#include "common/progress.h"
#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/pictures/inpaint.h"
#include "worker/pictures/smooth.h"
#include "worker/plan/model_pixels.h"

namespace dermis {
namespace {

// The least mean probability: its logarithm must be finite.
constexpr double kLeastProbability = 1e-30;

absl::Status Invalid(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("explanation of image ", image, ": ", why));
}

// The image that is cut: as displayed, or as the model sees it. Both are what `segmentation` is a
// segmentation of.
class CutImages {
 public:
  static absl::StatusOr<CutImages> Of(const ImageData& data, const Segmentation& segmentation,
                                      uint32_t image) {
    const v1::ImageSetManifest& manifest = data.set->manifest();
    if (image >= static_cast<uint32_t>(manifest.images_size())) {
      return Invalid(image, absl::StrCat("the set has ", manifest.images_size(), " images"));
    }
    const auto height = static_cast<uint32_t>(segmentation.height);
    const auto width = static_cast<uint32_t>(segmentation.width);
    const bool displayed = height == manifest.height() && width == manifest.width();
    if (!displayed && (height != data.size || width != data.size)) {
      return Invalid(
          image, absl::StrCat("superpixels of ", height, " x ", width, " for an image of ",
                              manifest.height(), " x ", manifest.width(), ", ", data.size, " x ",
                              data.size, " for the model"));
    }
    if (data.size > height || data.size > width) {
      return Invalid(
          image, absl::StrCat("the model takes ", data.size, " pixels a side, the image ", "is ",
                              height, " x ", width));
    }
    return CutImages(data, displayed);
  }

  // height x width x 3.
  absl::StatusOr<std::vector<uint8_t>> Pixels(uint32_t image) const {
    if (displayed_) {
      ASSIGN_OR_RETURN(const std::string_view pixels, data_->set->Pixels(image));
      return std::vector<uint8_t>(pixels.begin(), pixels.end());
    }
    ASSIGN_OR_RETURN(const PinnedImage pinned, data_->Pin(image));
    return std::vector<uint8_t>(pinned.data(), pinned.data() + data_->image_bytes());
  }

 private:
  CutImages(const ImageData& data, bool displayed) : data_(&data), displayed_(displayed) {}
  const ImageData* data_;
  bool displayed_;
};

// One picture of each background image.
absl::StatusOr<std::vector<std::vector<float>>> BackgroundPictures(const v1::Background& background,
                                                                   uint32_t image,
                                                                   const ImageData& data,
                                                                   const CutImages& cut,
                                                                   Digest& digest) {
  if (background.per_class() == 0) return Invalid(image, "the background has no images");
  const std::vector<uint32_t> images =
      BackgroundImages(data.split.training, data.labels, background.seed(), background.per_class());
  if (images.empty()) return Invalid(image, "no training images: they are what hides superpixels");
  digest = BackgroundDigest(data.set->manifest(), images);
  std::vector<std::vector<float>> pictures;
  for (const uint32_t other : images) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> pixels, cut.Pixels(other));
    pictures.emplace_back(pixels.begin(), pixels.end());
  }
  return pictures;
}

// logits: masks x classes, a full batch of the plan at a time.
absl::Status RunComposer(absl::Span<const Mask> masks, const Composer& composer,
                         InferencePlan& plan, float* logits) {
  const size_t input_size = size_t{plan.size()} * plan.size() * 3;
  for (size_t first = 0; first < masks.size(); first += plan.max_batch()) {
    const auto count =
        static_cast<uint32_t>(std::min<size_t>(plan.max_batch(), masks.size() - first));
    for (uint32_t b = 0; b < count; ++b) {
      composer.Compose(masks[first + b], plan.input() + b * input_size);
    }
    RETURN_IF_ERROR(plan.Run(count, logits + first * plan.classes()));
    NoteProgress();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MaskedImage> MaskedImageOf(const v1::ImageSource& source, uint32_t image,
                                          v1::HiddenValue hidden, const v1::Hiding& hiding,
                                          const Segmentation& segmentation, const ImageData& data,
                                          const InferencePlan& plan) {
  ASSIGN_OR_RETURN(const CutImages cut, CutImages::Of(data, segmentation, image));
  ASSIGN_OR_RETURN(const std::vector<uint8_t> rgb, cut.Pixels(image));
  MaskedImage masked;
  HiddenColors colors;                       // One a superpixel, or ...
  std::vector<std::vector<float>> pictures;  // ... these.
  switch (hidden) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
      colors.assign(segmentation.count, MeanColorOf(data, plan));
      break;
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
      colors = SuperpixelMeans(rgb.data(), segmentation);
      break;
    case v1::HIDDEN_VALUE_CONSTANT: {
      if (hiding.color_size() != 3) return Invalid(image, "a constant colour has three numbers");
      colors.assign(segmentation.count, {hiding.color(0), hiding.color(1), hiding.color(2)});
      break;
    }
    case v1::HIDDEN_VALUE_BLUR:
      if (!(hiding.blur() > 0 && hiding.blur() <= 1)) {
        return Invalid(image, "needs a blur in (0, 1]");
      }
      pictures.push_back(
          Blurred(rgb.data(), segmentation.height, segmentation.width,
                  hiding.blur() * std::min(segmentation.height, segmentation.width)));
      break;
    case v1::HIDDEN_VALUE_INPAINT:
      pictures.push_back(
          Inpaint(rgb.data(), segmentation.labels, segmentation.height, segmentation.width));
      break;
    case v1::HIDDEN_VALUE_BACKGROUND: {
      ASSIGN_OR_RETURN(
          pictures, BackgroundPictures(hiding.background(), image, data, cut, masked.background));
      masked.probabilities = hiding.probabilities();
      break;
    }
    default:
      return Invalid(image, "no hidden value is named");
  }
  ASSIGN_OR_RETURN(const std::vector<float> evaluated, EvaluatedPixels(data, source, image));
  const Normalisation normalisation = NormalisationOf(data, plan);
  if (pictures.empty()) {
    masked.composers.emplace_back(rgb.data(), segmentation, colors, evaluated.data(), data.size,
                                  normalisation);
  }
  for (const std::vector<float>& picture : pictures) {
    masked.composers.emplace_back(rgb.data(), segmentation, picture.data(), evaluated.data(),
                                  data.size, normalisation);
  }
  return masked;
}

absl::Status RunMasks(absl::Span<const Mask> masks, const MaskedImage& masked, InferencePlan& plan,
                      float* logits) {
  if (masked.composers.size() == 1) return RunComposer(masks, masked.composers[0], plan, logits);
  const uint32_t classes = plan.classes();
  std::vector<double> means(masks.size() * classes, 0.0);
  std::vector<float> rows(means.size());
  for (const Composer& composer : masked.composers) {
    RETURN_IF_ERROR(RunComposer(masks, composer, plan, rows.data()));
    for (size_t m = 0; m < masks.size(); ++m) {
      const auto row = absl::MakeConstSpan(rows).subspan(m * classes, classes);
      const std::vector<double> values =
          masked.probabilities ? Softmax(row) : std::vector<double>(row.begin(), row.end());
      for (uint32_t c = 0; c < classes; ++c) means[m * classes + c] += values[c];
    }
  }
  for (size_t i = 0; i < means.size(); ++i) {
    const double mean = means[i] / static_cast<double>(masked.composers.size());
    logits[i] = static_cast<float>(
        masked.probabilities ? std::log(std::max(mean, kLeastProbability)) : mean);
  }
  return absl::OkStatus();
}

}  // namespace dermis
