#include "worker/explain/composer.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace dermis {
namespace {

// The shares of output pixels that one input pixel has, along one axis.
struct Share {
  int output;
  double weight;   // Of the output pixel's area.
};

std::vector<std::vector<Share>> Shares(int in, int out) {
  // Whole units, as in AreaResize: an input pixel is out/gcd long, an output pixel in/gcd.
  const int64_t divisor = std::gcd(in, out), unit = out / divisor, span = in / divisor;
  std::vector<std::vector<Share>> shares(in);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = i * unit / span; o < out && o * span < (i + 1) * unit; ++o) {
      const int64_t overlap =
          std::min((o + 1) * span, (i + 1) * unit) - std::max(o * span, i * unit);
      if (overlap > 0) {
        shares[i].push_back({static_cast<int>(o), double(overlap) / double(span)});
      }
    }
  }
  return shares;
}

}  // namespace

HiddenColors SuperpixelMeans(const uint8_t* image, const Segmentation& segmentation) {
  std::vector<std::array<uint64_t, 4>> sums(segmentation.count);
  for (size_t i = 0; i < segmentation.labels.size(); ++i) {
    auto& sum = sums[segmentation.labels[i]];
    for (int c = 0; c < 3; ++c) sum[c] += image[3 * i + c];
    ++sum[3];
  }
  HiddenColors means(segmentation.count);
  for (size_t k = 0; k < means.size(); ++k) {
    for (int c = 0; c < 3 && sums[k][3] > 0; ++c) means[k][c] = double(sums[k][c]) / double(sums[k][3]);
  }
  return means;
}

Composer::Composer(const uint8_t* image, const Segmentation& segmentation,
                   const HiddenColors& hidden, const uint8_t* quantised, uint32_t size,
                   Normalisation normalisation) {
  const std::vector<float> evaluated(quantised, quantised + size_t{size} * size * 3);
  Build(image, segmentation, &hidden, nullptr, evaluated.data(), size, normalisation);
}

Composer::Composer(const uint8_t* image, const Segmentation& segmentation,
                   const HiddenColors& hidden, const float* evaluated, uint32_t size,
                   Normalisation normalisation) {
  Build(image, segmentation, &hidden, nullptr, evaluated, size, normalisation);
}

Composer::Composer(const uint8_t* image, const Segmentation& segmentation,
                   const float* hidden_picture, const float* evaluated, uint32_t size,
                   Normalisation normalisation) {
  Build(image, segmentation, nullptr, hidden_picture, evaluated, size, normalisation);
}

void Composer::Build(const uint8_t* image, const Segmentation& segmentation,
                     const HiddenColors* colors, const float* picture, const float* evaluated,
                     uint32_t size, Normalisation normalisation) {
  const int height = segmentation.height, width = segmentation.width, side = static_cast<int>(size);
  const auto rows = Shares(height, side), columns = Shares(width, side);
  const size_t outputs = size_t{size} * size;

  // Pixels by superpixel, in raster order.
  std::vector<size_t> first(segmentation.count + 1, 0);
  for (uint32_t label : segmentation.labels) ++first[label + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<uint32_t> pixels(segmentation.labels.size());
  std::vector<size_t> next(first.begin(), first.end() - 1);
  for (size_t i = 0; i < segmentation.labels.size(); ++i) {
    pixels[next[segmentation.labels[i]]++] = static_cast<uint32_t>(i);
  }

  // Per superpixel: coverage, sum of mask * image and (with a picture) of mask * picture by channel, of the output pixels
  // that it touches.
  struct Touched {
    uint32_t output;
    double coverage, image[3], hidden[3];
  };
  std::vector<Touched> touched;
  std::vector<size_t> touched_begin = {0};
  struct Sum {
    double image[3] = {0, 0, 0}, hidden[3] = {0, 0, 0}, coverage = 0;
  };
  std::vector<Sum> sums(outputs);
  std::vector<uint32_t> seen;
  std::vector<std::array<double, 3>> resized(outputs, {0, 0, 0});  // resize(image)
  for (uint32_t k = 0; k < segmentation.count; ++k) {
    for (size_t p = first[k]; p < first[k + 1]; ++p) {
      const uint32_t i = pixels[p];
      for (const Share& row : rows[i / width]) {
        for (const Share& column : columns[i % width]) {
          const uint32_t output = static_cast<uint32_t>(row.output * side + column.output);
          Sum& sum = sums[output];
          if (sum.coverage == 0) seen.push_back(output);
          const double weight = row.weight * column.weight;
          for (int c = 0; c < 3; ++c) sum.image[c] += weight * image[3 * size_t{i} + c];
          if (picture != nullptr) {
            for (int c = 0; c < 3; ++c) sum.hidden[c] += weight * picture[3 * size_t{i} + c];
          }
          sum.coverage += weight;
        }
      }
    }
    std::sort(seen.begin(), seen.end());
    for (uint32_t output : seen) {
      Sum& sum = sums[output];
      Touched& to = touched.emplace_back();
      to.output = output;
      to.coverage = sum.coverage;
      for (int c = 0; c < 3; ++c) {
        to.image[c] = sum.image[c];
        to.hidden[c] = colors != nullptr ? sum.coverage * (*colors)[k][c] : sum.hidden[c];
        resized[output][c] += sum.image[c];
      }
      sum = Sum();
    }
    seen.clear();
    touched_begin.push_back(touched.size());
  }

  full_.resize(outputs * 3);
  for (size_t i = 0; i < full_.size(); ++i) {
    full_[i] = normalisation(evaluated[i]);
  }
  begin_ = touched_begin;
  cells_.reserve(touched.size());
  for (uint32_t k = 0; k < segmentation.count; ++k) {
    for (size_t t = begin_[k]; t < begin_[k + 1]; ++t) {
      const Touched& from = touched[t];
      Cell cell{from.output * 3, {}};
      for (int c = 0; c < 3; ++c) {
        const double residual = evaluated[size_t{from.output} * 3 + c] - resized[from.output][c];
        const double change =
            from.hidden[c] - from.image[c] - from.coverage * residual;
        cell.delta[c] = static_cast<float>(change * normalisation.inverse_deviation);
      }
      cells_.push_back(cell);
    }
  }
}

void Composer::Compose(absl::Span<const uint8_t> mask, float* input) const {
  std::memcpy(input, full_.data(), full_.size() * sizeof(float));
  for (size_t k = 0; k < mask.size(); ++k) {
    if (mask[k]) continue;
    for (size_t i = begin_[k]; i < begin_[k + 1]; ++i) {
      const Cell& cell = cells_[i];
      float* const pixel = input + cell.offset;
      pixel[0] += cell.delta[0];
      pixel[1] += cell.delta[1];
      pixel[2] += cell.delta[2];
    }
  }
}

}  // namespace dermis
