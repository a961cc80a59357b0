// 3 x 3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3)
// (Lavin and Gray 2015, "Fast algorithms for convolutional neural networks").
//
// Each tile of 4 x 4 outputs reads a patch of 6 x 6 inputs: Y = A' [(G g G') * (B' d B)] A, where *
// is by element; so over all tiles and channels it is 36 products of matrices. The points are 0,
// +-5/8, +-3/2 and infinity: all constants of A and B are exact then, and the error is half of that
// of the usual 0, +-1, +-2, twice that of a direct sum.
//
// Ours, and not oneDNN's, which picks algorithm and order of sums by the batch. Here an output is a
// function of its patch alone, over the input channels a chain of fused multiply-adds in order.
#ifndef DERMIS_WORKER_PLAN_WINOGRAD_H_
#define DERMIS_WORKER_PLAN_WINOGRAD_H_

#include <cstddef>
#include <memory>
#include <vector>

namespace dermis {

class WinogradConvolution {
 public:
  // Whether this processor has AVX-512, without which nothing below may be called.
  static bool Supported();
  // Whether it takes that many channels.
  static bool Takes(size_t in, size_t out) { return in % 16 == 0 && out % 64 == 0; }

  // weight: [out][in][3][3]; bias: [out]. Not kept. Transformed weights are four times as large;
  // equal ones are shared by all objects of the process. Takes(in, out).
  WinogradConvolution(size_t in, size_t out, const std::vector<float>& weight,
                      const std::vector<float>& bias);

  // relu?(convolution of x + bias (+ y)) into y; x: [images][side][side][in], zero beyond the
  // border; y: [images][side][side][out], apart from x. scratch: for this thread's use, made as
  // large as it must be.
  void Run(size_t images, size_t side, const float* x, bool add, bool relu, float* y,
           std::vector<float>& scratch) const;

  struct Weights;
  const Weights* weights() const { return weights_.get(); }

 private:
  size_t in_, out_;
  std::shared_ptr<const Weights> weights_;
  std::vector<float> bias_;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_WINOGRAD_H_
