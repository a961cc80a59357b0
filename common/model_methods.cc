#include "common/model_methods.h"

#include "common/background.h"

namespace dermis {
namespace {

v1::GradientTask GradientTaskOf(const v1::MethodSpec& method, const ModelMethodContext& context) {
  v1::GradientTask task;
  *task.mutable_images() = context.images;
  task.set_image(context.image);
  *task.mutable_model() = context.model;
  task.set_output(context.explanation.output());
  if (method.has_deep_shap() || method.has_expected_gradients()) {
    task.mutable_background()->set_per_class(BackgroundPerClass(context.explanation));
    task.mutable_background()->set_seed(context.seed);
  }
  // Not of a method that draws nothing: other studies' results serve.
  if (method.has_expected_gradients() || method.has_smooth_grad()) {
    task.set_seed(context.seed);
    task.set_standard_errors(true);
  }
  switch (method.kind_case()) {
    case v1::MethodSpec::kDeepShap:
      *task.mutable_deep_shap() = method.deep_shap();
      break;
    case v1::MethodSpec::kExpectedGradients:
      *task.mutable_expected_gradients() = method.expected_gradients();
      break;
    case v1::MethodSpec::kIntegratedGradients:
      *task.mutable_integrated_gradients() = method.integrated_gradients();
      break;
    case v1::MethodSpec::kSmoothGrad:
      *task.mutable_smooth_grad() = method.smooth_grad();
      break;
    default:
      break;
  }
  return task;
}

}  // namespace

bool IsPixelMethod(const v1::MethodSpec& method) {
  return method.has_deep_shap() || method.has_expected_gradients() ||
         method.has_integrated_gradients() || method.has_smooth_grad();
}

v1::CamKind CamKindOf(const v1::MethodSpec& method) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kCam:
      return v1::CAM_KIND_CAM;
    case v1::MethodSpec::kGradCamPlusPlus:
      return v1::CAM_KIND_GRAD_CAM_PLUS_PLUS;
    case v1::MethodSpec::kHiresCam:
      return v1::CAM_KIND_HIRES_CAM;
    case v1::MethodSpec::kLayerCam:
      return v1::CAM_KIND_LAYER_CAM;
    default:
      return v1::CAM_KIND_UNSPECIFIED;
  }
}

bool IsLinearCam(v1::CamKind kind) {
  return kind != v1::CAM_KIND_GRAD_CAM_PLUS_PLUS && kind != v1::CAM_KIND_LAYER_CAM;
}

v1::TaskSpec ModelTaskOf(const v1::MethodSpec& method, const ModelMethodContext& context) {
  v1::TaskSpec task;
  if (IsPixelMethod(method)) {
    *task.mutable_gradient() = GradientTaskOf(method, context);
    return task;
  }
  v1::ActivationTask& maps = *task.mutable_activations();
  *maps.mutable_images() = context.images;
  maps.set_image(context.image);
  *maps.mutable_model() = context.model;
  maps.set_output(context.explanation.output());
  maps.set_cam(CamKindOf(method));
  return task;
}

uint64_t MapsOf(const v1::MethodSpec& method, v1::ModelKind model) {
  const v1::CamKind cam = CamKindOf(method);
  if (!method.has_grad_cam() && (cam == v1::CAM_KIND_UNSPECIFIED || cam == v1::CAM_KIND_CAM)) {
    return 1;
  }
  if (model != v1::MODEL_KIND_SEED_CNN) return 5;  // The stem and four stages.
  return method.has_grad_cam() ? 6 : 7;            // The convolutions; what the last layer reads.
}

uint64_t GradientsOf(const v1::MethodSpec& method, uint64_t background_images) {
  switch (method.kind_case()) {
    case v1::MethodSpec::kDeepShap:
      return background_images;
    case v1::MethodSpec::kExpectedGradients:
      return method.expected_gradients().samples();
    case v1::MethodSpec::kIntegratedGradients:
      return method.integrated_gradients().steps();
    case v1::MethodSpec::kSmoothGrad:
      return method.smooth_grad().samples();
    case v1::MethodSpec::kCam:
    case v1::MethodSpec::kGradCam:
    case v1::MethodSpec::kGradCamPlusPlus:
    case v1::MethodSpec::kHiresCam:
    case v1::MethodSpec::kLayerCam:
    case v1::MethodSpec::kActivationMaps:
      return 1;
    default:
      return 0;
  }
}

}  // namespace dermis
