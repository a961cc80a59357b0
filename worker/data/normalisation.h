// From pixel values to model inputs.
#ifndef DERMIS_WORKER_DATA_NORMALISATION_H_
#define DERMIS_WORKER_DATA_NORMALISATION_H_

namespace dermis {

// Model input of a pixel value v in 0..255: in float, one operation after the other.
struct Normalisation {
  float mean, inverse_deviation;
  float operator()(float v) const { return (v - mean) * inverse_deviation; }
};

// The seed's: (v - mean) / (deviation + 1e-7).
inline Normalisation NormalisationOf(double mean, double deviation) {
  return {static_cast<float>(mean), static_cast<float>(1.0 / (deviation + 1e-7))};
}

}  // namespace dermis

#endif  // DERMIS_WORKER_DATA_NORMALISATION_H_
