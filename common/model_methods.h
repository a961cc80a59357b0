// The methods that look into the model itself (its gradients, its maps): one task an image each.
#ifndef DERMIS_COMMON_MODEL_METHODS_H_
#define DERMIS_COMMON_MODEL_METHODS_H_

#include <cstdint>

#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// What is explained. References must outlive the call.
struct ModelMethodContext {
  const v1::ImageSource& images;
  uint32_t image = 0;  // Index in the manifest.
  const v1::ModelRef& model;
  const v1::ExplanationSpec& explanation;  // Resolved: output, background.
  uint64_t seed = 0;                       // The study's.
};

// Whose values are those of single pixels: a GradientTask.
bool IsPixelMethod(const v1::MethodSpec& method);
// Whose values are class activation maps other than Grad-CAM's: an ActivationTask that names it.
// CAM_KIND_UNSPECIFIED: none of these.
v1::CamKind CamKindOf(const v1::MethodSpec& method);

// In the gradient: then the map of -f is minus that of f. Of the others a result holds both.
bool IsLinearCam(v1::CamKind kind);

// `method` resolved; one without superpixels. To be completed by MakeTask.
v1::TaskSpec ModelTaskOf(const v1::MethodSpec& method, const ModelMethodContext& context);

// Maps in the method's result for one image of a network of ours: of class activation maps (but CAM
// itself) one a layer, of all other methods one.
uint64_t MapsOf(const v1::MethodSpec& method, v1::ModelKind model);

// Gradients that the method takes for one image of a network: for prices. 0: none of these methods.
uint64_t GradientsOf(const v1::MethodSpec& method, uint64_t background_images);

}  // namespace dermis

#endif  // DERMIS_COMMON_MODEL_METHODS_H_
