// Model inputs with some superpixels hidden. Linear in the mask, also after the resize:
//
//   input(z) = x + sum_k (1 - z_k) D_k
//   D_k = [resize(mask_k (hidden - image)) - resize(mask_k) (q - resize(image))] / normalisation
//
// q: the quantised model-size pixels that are evaluated, x their normalised values. All shown gives x bit for
// bit; all hidden gives the resized hidden image, because the second terms add up to the quantisation's
// residual. Each D_k is sparse, so an input costs a copy and a few hundred additions.
#ifndef DERMIS_WORKER_EXPLAIN_COMPOSER_H_
#define DERMIS_WORKER_EXPLAIN_COMPOSER_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "worker/data/image_source.h"
#include "worker/explain/superpixels.h"

namespace dermis {

// What hides superpixel k: a colour, 0..255.
using HiddenColors = std::vector<std::array<double, 3>>;

// The mean colour of each superpixel, never rounded (LIME's package truncates it to bytes).
HiddenColors SuperpixelMeans(const uint8_t* image, const Segmentation& segmentation);

// Thread-safe after construction.
class Composer {
 public:
  // image: display-size pixels (segmentation.height x width x 3); quantised: size x size x 3, what
  // AreaResizeBytes made of it. size <= height, width. hidden: one colour a superpixel.
  Composer(const uint8_t* image, const Segmentation& segmentation, const HiddenColors& hidden,
           const uint8_t* quantised, uint32_t size, Normalisation normalisation);
  // The same with what stands for the quantised pixels: size x size x 3 in 0..255, as EvaluatedPixels gives them. What is
  // added to them is hidden with the superpixel.
  Composer(const uint8_t* image, const Segmentation& segmentation, const HiddenColors& hidden,
           const float* evaluated, uint32_t size, Normalisation normalisation);
  // A picture of the image's size instead of one colour a superpixel: each is replaced by the picture's part.
  Composer(const uint8_t* image, const Segmentation& segmentation, const float* hidden_picture,
           const float* evaluated, uint32_t size, Normalisation normalisation);

  // mask: one byte a superpixel, 0 hides it. Writes size x size x 3 floats. The sum runs over superpixels in
  // ascending order: same bits wherever the mask stands in a batch.
  void Compose(absl::Span<const uint8_t> mask, float* input) const;

 private:
  struct Cell {
    uint32_t offset;   // Of the pixel's first channel.
    float delta[3];
  };
  // One of `colors` and `picture` is there.
  void Build(const uint8_t* image, const Segmentation& segmentation, const HiddenColors* colors,
             const float* picture, const float* evaluated, uint32_t size,
             Normalisation normalisation);

  std::vector<float> full_;
  std::vector<Cell> cells_;      // Superpixel k's are [begin_[k], begin_[k + 1]).
  std::vector<size_t> begin_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_COMPOSER_H_
