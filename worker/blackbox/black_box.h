// A model that is nothing but a function of images: what a runtime of foreign files implements, or
// a model without layers (a forest, a logistic regression), to be evaluated and explained by
// perturbation.
#ifndef DERMIS_WORKER_BLACKBOX_BLACK_BOX_H_
#define DERMIS_WORKER_BLACKBOX_BLACK_BOX_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"

#include "worker/plan/inference_plan.h"

namespace dermis {

// Not thread-safe: one a thread, as plans are.
class BlackBox {
 public:
  virtual ~BlackBox() = default;
  virtual uint32_t size() const = 0;     // Takes size x size pixels.
  virtual uint32_t classes() const = 0;  // At least two.
  // images: count x size x size x 3 pixel values, 0..255, red first; where something is hidden they
  // are not whole. logits: count x classes. An image's logits have the same bits wherever it stands
  // and whatever is beside it.
  virtual absl::Status Logits(uint32_t count, const float* images, float* logits) = 0;
  // What hides a part where no training images say it, 0..255.
  virtual std::array<double, 3> mean_color() const = 0;
};

// Its inputs are pixel values as they are.
std::unique_ptr<InferencePlan> MakeBlackBoxPlan(std::unique_ptr<BlackBox> model);

}  // namespace dermis

#endif  // DERMIS_WORKER_BLACKBOX_BLACK_BOX_H_
