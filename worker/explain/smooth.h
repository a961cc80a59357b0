#ifndef DERMIS_WORKER_EXPLAIN_SMOOTH_H_
#define DERMIS_WORKER_EXPLAIN_SMOOTH_H_

#include <vector>

namespace dermis {

// scipy.ndimage.gaussian_filter of one plane (height x width), in place: radius 4 sigma, mirrored
// at the border with the border pixel repeated. sigma > 0, pixels.
void Smooth(std::vector<double>& plane, int height, int width, double sigma);

}  // namespace dermis

#endif  // DERMIS_WORKER_EXPLAIN_SMOOTH_H_
