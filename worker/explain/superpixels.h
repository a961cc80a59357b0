// Superpixels. SLIC and quickshift follow scikit-image 0.26 (compared in tests/parity/explain);
// deterministic, one thread.
#ifndef DERMIS_WORKER_EXPLAIN_SUPERPIXELS_H_
#define DERMIS_WORKER_EXPLAIN_SUPERPIXELS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Labels 0 .. count - 1, every one present, row-major.
struct Segmentation {
  int height = 0, width = 0;
  uint32_t count = 0;
  std::vector<uint32_t> labels;
};

struct SlicParameters {
  int count = 50;            // Approximate number of superpixels.
  double compactness = 10;   // Weight of nearness against likeness of colour.
  double sigma = 1;          // Gaussian smoothing before, pixels; 0: none.
};

// SLIC (Achanta 2012): k-means in (Lab, y, x) from a regular grid, 10 rounds, each centre seen within two
// steps; then pieces smaller than half the mean size join a neighbour and none exceeds three times it.
// rgb: height x width x 3.
Segmentation Slic(const uint8_t* rgb, int height, int width, const SlicParameters& parameters);

struct QuickshiftParameters {
  double kernel_size = 4;    // Pixels, >= 1.
  double max_dist = 200;
  double ratio = 0.2;        // Of colour against place.
};

// Quickshift (Vedaldi 2008): each pixel joins the nearest one of higher density within three kernel widths.
// Equal densities: the lower index counts as higher, where skimage adds noise.
Segmentation Quickshift(const uint8_t* rgb, int height, int width,
                        const QuickshiftParameters& parameters);

// rows x columns rectangles of equal size but for a pixel, numbered row by row. 1 <= rows <= height, likewise columns.
Segmentation Rectangles(int height, int width, int rows, int columns);

// The same superpixels on a finer picture: each pixel has the label at its place. No side may become shorter.
Segmentation Enlarged(const Segmentation& segmentation, int height, int width);

// Relabels by first appearance of each label in ascending order of label, so that none is missing.
void CompactLabels(Segmentation& segmentation);

// To and from the stored form. Errors: INVALID_ARGUMENT for sizes or labels that do not fit, more than
// 65,536 superpixels.
absl::StatusOr<v1::SuperpixelOutput> ToProto(const Segmentation& segmentation);
absl::StatusOr<Segmentation> FromProto(const v1::SuperpixelOutput& output);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_SUPERPIXELS_H_
