// Counter-based randomness (Philox 4x32-10, Salmon et al. 2011), keyed by meaning. Nothing in Dermis
// draws from a shared stream: a value depends on what it is for, never on who asked before.
#ifndef DERMIS_COMMON_PHILOX_H_
#define DERMIS_COMMON_PHILOX_H_

#include <array>
#include <cstdint>
#include <vector>

namespace dermis {

// What a draw is for. Numbers are part of every result's bits: never reuse or renumber.
enum class Purpose : uint32_t {
  kInit = 1,     // a = parameter index, element
  kShuffle = 2,  // a = epoch, b = sample, or its place where there is a window
  kAugment = 3,  // a = epoch, b = sample (image index)
  kDropout = 4,  // a = step, b = sample, element = layer and unit
  kLime = 5,     // a = mask, element = superpixel
  kShapley = 6,  // a = permutation, b = superpixel
  kSplit = 7,    // a = group's rank
  kChoice = 8,   // a = image: random explained images
  kSynth = 9,    // a = image, element = what is drawn
  kTest = 10,
  kSweep = 11,         // a = trial, b = the key's hash
  kChunkShuffle = 12,  // a = epoch, b = chunk of the image set
  kBootstrap = 13,     // a = draw, b = place in the sample
  kKernelShap = 40,    // a = draw, element = superpixel; its first word beyond the last superpixel: the size
  kLeverage = 41,      // a = draw, b = try, element = superpixel or what is drawn
  kRise = 42,          // a = mask, element = superpixel
  kLesionShift = 50,   // a = placement, b = image
  kLesionTurn = 51,    // a = image, b = turn
  kLesionPartner = 52,  // a = placement, b = image, element = try
  kLesionNull = 53,    // a = draw, b = lesion, element = finding
  kRandomise = 55,     // element: seed of the weights that replace trained ones
  kImageNoise = 56,    // a = draw, b = image, element = pixel and channel
  kHalf = 57,          // a = draw, b = image, element = superpixel
  kRandomOrder = 58,   // a = draw, b = superpixel, element = image
  kSubgroups = 60,     // a = permutation, b = place within the class's lesions, element = class
  kPca = 75,           // a = which matrix, b = its row, element = column
  kTsne = 76,          // a = point: where it starts
  kForestRows = 61,      // a = tree, b = place in the sample
  kForestFeatures = 62,  // a = tree, b = path to the node (root 1, children 2 path and 2 path + 1)
  kBackground = 45,          // a = image
  kExpectedGradients = 46,   // a = draw, b = image
  kSmoothGrad = 47,          // a = draw, b = image, element = pixel and channel
};

// The block of four 32-bit words at counter (element, a, b, purpose) under key = seed.
std::array<uint32_t, 4> PhiloxBlock(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b,
                                    uint32_t element);
// NB: a takes 32 bits of the counter, b 32 bits, element 32 bits, purpose 32 bits; larger values of a
// or b are a programming error (checked).

// [0, 1) with 24 bits from a 32-bit word: exact in float, so the same on every device.
inline float ToUnitFloat(uint32_t word) { return static_cast<float>(word >> 8) * 0x1.0p-24f; }
// [0, 1) with 53 bits.
inline double ToUnitDouble(uint32_t high, uint32_t low) {
  return static_cast<double>((static_cast<uint64_t>(high) << 21) ^ (low >> 11)) * 0x1.0p-53;
}

// A permutation of 0..n-1: indices sorted by (64 random bits keyed by (a, index), index).
std::vector<uint32_t> PhiloxPermutation(uint64_t seed, Purpose purpose, uint64_t a, uint32_t n);

}  // namespace dermis

#endif  // DERMIS_COMMON_PHILOX_H_
