// Area resize (each output pixel is the mean of the input area it covers), in float, never quantised
// inside. Linear in its input: what the explanation engine relies on.
#ifndef DERMIS_COMMON_RESIZE_H_
#define DERMIS_COMMON_RESIZE_H_

#include <cstdint>

namespace dermis {

// in: h x w x channels floats -> out: oh x ow x channels floats. oh <= h, ow <= w. Fixed order of
// summation (rows, then columns); same bits everywhere.
void AreaResize(const float* in, int h, int w, int channels, float* out, int oh, int ow);

// The same from bytes, rounded half up to bytes: the one preprocessing of model inputs. All models see
// images through this function (training, evaluation, explanation).
void AreaResizeBytes(const uint8_t* in, int h, int w, int channels, uint8_t* out, int oh, int ow);

}  // namespace dermis

#endif  // DERMIS_COMMON_RESIZE_H_
