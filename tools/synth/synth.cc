#include "tools/synth/synth.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/philox.h"

namespace dermis {
namespace {

using Colour = std::array<float, 3>;

// What is drawn; the number is the upper half of the Philox element, so layers never share a draw.
enum class Layer : uint32_t { kSkin = 1, kLesion = 2, kRegion = 3, kHair = 4, kRuler = 5, kNoise = 6 };

// Draws of one layer of one image, by position, in [0, 1).
class Draws {
 public:
  Draws(uint64_t seed, uint32_t image, Layer layer) : seed_(seed), image_(image), layer_(layer) {}
  double At(uint32_t index) const {
    return ToUnitDouble(Block(index)[0], Block(index)[1]);
  }
  double Range(uint32_t index, double low, double high) const {
    return low + (high - low) * At(index);
  }
  // Standard normal.
  double Normal(uint32_t index) const {
    const auto words = Block(index);
    const double u = 1.0 - ToUnitDouble(words[0], words[1]);
    return std::sqrt(-2.0 * std::log(u)) *
           std::cos(2.0 * std::numbers::pi * ToUnitDouble(words[2], words[3]));
  }

 private:
  std::array<uint32_t, 4> Block(uint32_t index) const {
    return PhiloxBlock(seed_, Purpose::kSynth, image_, static_cast<uint32_t>(layer_), index);
  }
  uint64_t seed_;
  uint32_t image_;
  Layer layer_;
};

// Smooth noise in about [-1, 1]: random values on a coarse grid, blended with a smoothstep.
class SmoothNoise {
 public:
  SmoothNoise(const Draws& draws, uint32_t first, int cells) : cells_(cells) {
    for (int i = 0; i < (cells + 1) * (cells + 1); ++i) {
      values_.push_back(static_cast<float>(draws.Range(first + i, -1, 1)));
    }
  }
  float At(float x, float y) const {  // x, y in [0, 1)
    const float gx = x * cells_, gy = y * cells_;
    const int ix = std::min(static_cast<int>(gx), cells_ - 1);
    const int iy = std::min(static_cast<int>(gy), cells_ - 1);
    const float fx = Smooth(gx - ix), fy = Smooth(gy - iy);
    const auto v = [&](int dx, int dy) { return values_[(iy + dy) * (cells_ + 1) + ix + dx]; };
    const float top = v(0, 0) + (v(1, 0) - v(0, 0)) * fx;
    const float bottom = v(0, 1) + (v(1, 1) - v(0, 1)) * fx;
    return top + (bottom - top) * fy;
  }

 private:
  static float Smooth(float t) { return t * t * (3 - 2 * t); }
  int cells_;
  std::vector<float> values_;
};

class Canvas {
 public:
  explicit Canvas(int size) : size_(size), pixels_(size_t(size) * size) {}
  int size() const { return size_; }
  Colour& at(int x, int y) { return pixels_[size_t(y) * size_ + x]; }
  void Blend(int x, int y, const Colour& colour, float alpha) {
    if (x < 0 || y < 0 || x >= size_ || y >= size_) return;
    for (int c = 0; c < 3; ++c) at(x, y)[c] += alpha * (colour[c] - at(x, y)[c]);
  }
  std::string Bytes() const {
    std::string bytes;
    bytes.reserve(pixels_.size() * 3);
    for (const Colour& pixel : pixels_) {
      for (float v : pixel) {
        bytes.push_back(static_cast<char>(std::lround(std::clamp(v, 0.f, 255.f))));
      }
    }
    return bytes;
  }

 private:
  int size_;
  std::vector<Colour> pixels_;
};

void DrawSkin(const Draws& draws, Canvas& canvas) {
  const float light = static_cast<float>(draws.Range(0, -18, 18));
  const Colour base = {static_cast<float>(draws.Range(1, 205, 228)) + light,
                       static_cast<float>(draws.Range(2, 160, 182)) + light,
                       static_cast<float>(draws.Range(3, 140, 166)) + light};
  const SmoothNoise coarse(draws, 10, 3), fine(draws, 100, 24);
  for (int y = 0; y < canvas.size(); ++y) {
    for (int x = 0; x < canvas.size(); ++x) {
      const float u = float(x) / canvas.size(), v = float(y) / canvas.size();
      const float shade = 9 * coarse.At(u, v) + 4 * fine.At(u, v);
      for (int c = 0; c < 3; ++c) canvas.at(x, y)[c] = base[c] + shade;
    }
  }
}

// A closed curve: radius by angle, a sum of a few harmonics.
struct Outline {
  double x, y, radius;
  std::array<double, 7> amplitude, phase;

  double RadiusAt(double angle) const {
    double r = 1;
    for (size_t k = 0; k < amplitude.size(); ++k) {
      r += amplitude[k] * std::cos((k + 2) * angle + phase[k]);
    }
    return radius * r;
  }
};

Outline DrawOutline(const Draws& draws, int size) {
  Outline outline;
  outline.x = size * draws.Range(0, 0.44, 0.56);
  outline.y = size * draws.Range(1, 0.44, 0.56);
  outline.radius = size * draws.Range(2, 0.32, 0.38);
  for (size_t k = 0; k < outline.amplitude.size(); ++k) {
    outline.amplitude[k] = draws.Range(10 + k, 0.0, 0.11 / (k + 2) * 2);
    outline.phase[k] = draws.Range(20 + k, 0, 2 * std::numbers::pi);
  }
  return outline;
}

void DrawLesion(const Draws& draws, const Outline& outline, Canvas& canvas, std::string& mask) {
  const float dark = static_cast<float>(draws.Range(3, -16, 16));
  const Colour base = {static_cast<float>(draws.Range(4, 118, 150)) + dark,
                       static_cast<float>(draws.Range(5, 76, 100)) + dark,
                       static_cast<float>(draws.Range(6, 58, 82)) + dark};
  const Colour second = {base[0] - static_cast<float>(draws.Range(7, 5, 40)),
                         base[1] - static_cast<float>(draws.Range(8, 5, 25)),
                         base[2] - static_cast<float>(draws.Range(9, -10, 20))};
  const SmoothNoise variegation(draws, 100, 5), fine(draws, 200, 20);
  const float edge = canvas.size() * 0.025f;
  for (int y = 0; y < canvas.size(); ++y) {
    for (int x = 0; x < canvas.size(); ++x) {
      const double dx = x - outline.x, dy = y - outline.y;
      const float inside =
          static_cast<float>(outline.RadiusAt(std::atan2(dy, dx)) - std::hypot(dx, dy));
      const float alpha = std::clamp(inside / edge + 0.5f, 0.f, 1.f);
      if (alpha <= 0) continue;
      const float u = float(x) / canvas.size(), v = float(y) / canvas.size();
      const float mix = 0.5f + 0.5f * variegation.At(u, v);
      Colour colour;
      for (int c = 0; c < 3; ++c) {
        colour[c] = base[c] + mix * (second[c] - base[c]) + 5 * fine.At(u, v);
      }
      canvas.Blend(x, y, colour, alpha);
      if (inside > 0) mask[size_t(y) * canvas.size() + x] = kLesion;
    }
  }
}

// The cause: a square of stripes, a quarter of the image a side (8 of 32 model pixels), its stripes three model
// pixels a period. Its mean colour is exactly the colour drawn for it, whatever the pattern.
void DrawRegion(const Draws& draws, const Outline& outline, bool vertical, Canvas& canvas,
                std::string& mask) {
  const int side = canvas.size() / 4;
  const double period = canvas.size() * 3.0 / 32;
  const double reach = outline.radius * 0.38;      // Keeps the square well inside the lesion.
  const double angle = draws.Range(0, 0, 2 * std::numbers::pi);
  const double distance = reach * std::sqrt(draws.At(1));
  const int left = static_cast<int>(std::lround(outline.x + distance * std::cos(angle) - side / 2.0));
  const int top = static_cast<int>(std::lround(outline.y + distance * std::sin(angle) - side / 2.0));
  const double phase = draws.At(2);
  const float contrast = static_cast<float>(draws.Range(3, 38, 52));
  const float light = static_cast<float>(draws.Range(4, -10, 10));
  const Colour mean = {132 + light, 92 + light, 76 + light};

  std::vector<float> stripe(side);                 // Along one axis, constant along the other.
  double sum = 0;
  for (int i = 0; i < side; ++i) {
    stripe[i] = contrast * static_cast<float>(std::sin(2 * std::numbers::pi * (i / period + phase)));
    sum += stripe[i];
  }
  for (float& value : stripe) value -= static_cast<float>(sum / side);
  for (int dy = 0; dy < side; ++dy) {
    for (int dx = 0; dx < side; ++dx) {
      const int x = left + dx, y = top + dy;
      if (x < 0 || y < 0 || x >= canvas.size() || y >= canvas.size()) continue;
      const float value = stripe[vertical ? dx : dy];
      canvas.at(x, y) = {mean[0] + value, mean[1] + value, mean[2] + value};
      mask[size_t(y) * canvas.size() + x] = kPlanted;
    }
  }
}

void DrawHairs(const Draws& draws, Canvas& canvas) {
  const int hairs = static_cast<int>(draws.Range(0, 0, 7));
  for (int h = 0; h < hairs; ++h) {
    const uint32_t d = 100 + 20 * h;
    double x = canvas.size() * draws.At(d), y = canvas.size() * draws.At(d + 1);
    double angle = draws.Range(d + 2, 0, 2 * std::numbers::pi);
    const double bend = draws.Range(d + 3, -1.5, 1.5) / canvas.size();
    const int length = static_cast<int>(canvas.size() * draws.Range(d + 4, 0.3, 0.9));
    const float shade = static_cast<float>(draws.Range(d + 5, 25, 70));
    for (int i = 0; i < length; ++i) {
      const int ix = static_cast<int>(x), iy = static_cast<int>(y);
      canvas.Blend(ix, iy, {shade, shade * 0.8f, shade * 0.7f}, 0.8f);
      canvas.Blend(ix + 1, iy, {shade, shade * 0.8f, shade * 0.7f}, 0.35f);
      x += std::cos(angle);
      y += std::sin(angle);
      angle += bend;
    }
  }
}

void DrawRuler(const Draws& draws, Canvas& canvas) {
  if (draws.At(0) > 0.3) return;
  const bool bottom = draws.At(1) < 0.5;
  const double step = canvas.size() * draws.Range(2, 0.04, 0.06);
  for (int tick = 0; tick * step < canvas.size(); ++tick) {
    const int length = static_cast<int>(canvas.size() * (tick % 5 == 0 ? 0.06 : 0.03));
    const int at = static_cast<int>(tick * step);
    for (int i = 0; i < length; ++i) {
      const int along = canvas.size() - 1 - i;
      canvas.Blend(bottom ? at : along, bottom ? along : at, {40, 40, 45}, 0.85f);
    }
  }
}

void AddNoise(const Draws& draws, Canvas& canvas) {
  uint32_t index = 0;
  for (int y = 0; y < canvas.size(); ++y) {
    for (int x = 0; x < canvas.size(); ++x) {
      const float noise = 3 * static_cast<float>(draws.Normal(index++));
      for (float& v : canvas.at(x, y)) v += noise;
    }
  }
}

}  // namespace

PackedImage MakeSynthImage(const SynthOptions& options, uint32_t index) {
  const auto draws = [&](Layer layer) { return Draws(options.seed, index, layer); };
  const int size = static_cast<int>(options.size);
  PackedImage image;
  image.entry.set_name(absl::StrFormat("synth-%06d", index));
  image.entry.set_label(index % 2);
  Canvas canvas(size);
  std::string mask(size_t(size) * size, static_cast<char>(kOutside));
  const Outline outline = DrawOutline(draws(Layer::kLesion), size);
  DrawSkin(draws(Layer::kSkin), canvas);
  DrawLesion(draws(Layer::kLesion), outline, canvas, mask);
  const bool vertical = (index % 2 == 1) != options.exchange_region;
  DrawRegion(draws(Layer::kRegion), outline, vertical, canvas, mask);
  // After the region, so that they may cross it as they may cross anything.
  DrawHairs(draws(Layer::kHair), canvas);
  DrawRuler(draws(Layer::kRuler), canvas);
  AddNoise(draws(Layer::kNoise), canvas);
  image.pixels = canvas.Bytes();
  image.mask = std::move(mask);
  return image;
}

absl::Status WriteSynthSet(const SynthOptions& options, const std::string& path) {
  if (options.size < 64 || options.size > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("synth: size ", options.size, " is not in 64 .. 1024 pixels"));
  }
  if (options.count < 4 || options.count > 1'000'000) {
    return absl::InvalidArgumentError(
        absl::StrCat("synth: count ", options.count, " is not in 4 .. 1000000 images"));
  }
  v1::ImageSetManifest header;
  header.set_format(1);
  header.set_name("synthetic");
  header.set_height(options.size);
  header.set_width(options.size);
  header.add_classes("benign");
  header.add_classes("malignant");
  header.set_preprocessing(absl::StrCat("synthetic/seed-", options.seed));
  std::vector<PackedImage> images;
  images.reserve(options.count);
  for (uint32_t i = 0; i < options.count; ++i) images.push_back(MakeSynthImage(options, i));
  return WriteImageSet(path, std::move(header), std::move(images));
}

}  // namespace dermis
