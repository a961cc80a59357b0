#ifndef DERMIS_WORKER_PICTURES_SMOOTH_H_
#define DERMIS_WORKER_PICTURES_SMOOTH_H_

#include <cstdint>
#include <vector>

namespace dermis {

// scipy.ndimage.gaussian_filter of one plane (height x width), in place: radius 4 sigma, mirrored
// at the border with the border pixel repeated. sigma > 0, pixels.
void Smooth(std::vector<double>& plane, int height, int width, double sigma);

// Each channel of an image (height x width x 3) smoothed so, in 0..255.
std::vector<float> Blurred(const uint8_t* rgb, int height, int width, double sigma);

}  // namespace dermis

#endif  // DERMIS_WORKER_PICTURES_SMOOTH_H_
