#include "worker/explain/masked_model.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "worker/data/noise.h"
#include "worker/explain/smooth.h"
#include "worker/plan/model_pixels.h"

namespace dermis {
namespace {

absl::Status Invalid(uint32_t image, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("explanation of image ", image, ": ", why));
}

// Display-size pixels of the image, where it and its superpixels are there and fit.
absl::StatusOr<const uint8_t*> DisplayPixels(uint32_t image, const Segmentation& segmentation,
                                             const ImageData& data) {
  const v1::ImageSetManifest& manifest = data.set->manifest();
  if (image >= static_cast<uint32_t>(manifest.images_size())) {
    return Invalid(image, absl::StrCat("the set has ", manifest.images_size(), " images"));
  }
  const auto height = static_cast<uint32_t>(segmentation.height);
  const auto width = static_cast<uint32_t>(segmentation.width);
  if (height != manifest.height() || width != manifest.width()) {
    return Invalid(image, absl::StrCat("superpixels of ", height, " x ", width, " for an image of ",
                                       manifest.height(), " x ", manifest.width()));
  }
  if (data.size > height || data.size > width) {
    return Invalid(image, absl::StrCat("the model takes ", data.size,
                                       " pixels a side, the image is ", height, " x ", width));
  }
  ASSIGN_OR_RETURN(const std::string_view pixels, data.set->Pixels(image));
  return reinterpret_cast<const uint8_t*>(pixels.data());
}

}  // namespace

absl::StatusOr<Composer> ComposerOf(const v1::ImageSource& source, uint32_t image,
                                    v1::HiddenValue hidden, const Segmentation& segmentation,
                                    const ImageData& data, const InferencePlan& plan) {
  ASSIGN_OR_RETURN(const uint8_t* const rgb, DisplayPixels(image, segmentation, data));
  HiddenColors colors;
  switch (hidden) {
    case v1::HIDDEN_VALUE_TRAINING_MEAN:
      colors.assign(segmentation.count, MeanColorOf(data, plan));
      break;
    case v1::HIDDEN_VALUE_SUPERPIXEL_MEAN:
      colors = SuperpixelMeans(rgb, segmentation);
      break;
    default:
      return Invalid(image, "no hidden value is named (training_mean or superpixel_mean)");
  }
  ASSIGN_OR_RETURN(const std::vector<float> evaluated, EvaluatedPixels(data, source, image));
  return Composer(rgb, segmentation, colors, evaluated.data(), data.size,
                  NormalisationOf(data, plan));
}

absl::StatusOr<Composer> BlurredComposerOf(const v1::ImageSource& source, uint32_t image,
                                           double blur, const Segmentation& segmentation,
                                           const ImageData& data, const InferencePlan& plan) {
  ASSIGN_OR_RETURN(const uint8_t* const rgb, DisplayPixels(image, segmentation, data));
  const int height = segmentation.height, width = segmentation.width;
  std::vector<float> picture(segmentation.labels.size() * 3);
  std::vector<double> plane(segmentation.labels.size());
  for (size_t c = 0; c < 3; ++c) {
    for (size_t p = 0; p < plane.size(); ++p) plane[p] = rgb[3 * p + c];
    Smooth(plane, height, width, blur * std::min(height, width));
    for (size_t p = 0; p < plane.size(); ++p) picture[3 * p + c] = static_cast<float>(plane[p]);
  }
  ASSIGN_OR_RETURN(const std::vector<float> evaluated, EvaluatedPixels(data, source, image));
  return Composer(rgb, segmentation, picture.data(), evaluated.data(), data.size,
                  NormalisationOf(data, plan));
}

absl::Status RunMasks(absl::Span<const Mask> masks, const Composer& composer, InferencePlan& plan,
                      float* logits) {
  const size_t input_size = size_t{plan.size()} * plan.size() * 3;
  for (size_t first = 0; first < masks.size(); first += plan.max_batch()) {
    const auto count =
        static_cast<uint32_t>(std::min<size_t>(plan.max_batch(), masks.size() - first));
    for (uint32_t b = 0; b < count; ++b) {
      composer.Compose(masks[first + b], plan.input() + b * input_size);
    }
    RETURN_IF_ERROR(plan.Run(count, logits + first * plan.classes()));
  }
  return absl::OkStatus();
}

}  // namespace dermis
