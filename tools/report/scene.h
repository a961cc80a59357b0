// What all figures of one explained image share, and the pieces that they are made of.
#ifndef DERMIS_TOOLS_REPORT_SCENE_H_
#define DERMIS_TOOLS_REPORT_SCENE_H_

#include <string>

#include "tools/report/picture.h"

namespace dermis {

struct Scene {
  std::string id;  // Of the picture, defined once and used by every figure.
  int width = 0, height = 0;
  std::string name, predicted, positive;
  std::string negative;  // Of two classes the other one.
  double sign = 1;  // f * sign points towards the predicted class.
  double cam_sign = 1;
  std::string cam_target;
};

// A figure of a picture and its caption, HTML both.
std::string Figure(const std::string& picture, const std::string& caption,
                   const std::string& kind = "");
// The opening tag of a picture in the image's pixel units; `alt` is text.
std::string OpenSvg(const Scene& scene, const std::string& alt);
// The image itself within it; `more`: attributes.
std::string UseBase(const Scene& scene, const std::string& more = "");
// A raster of any size over the whole image, which a reader may hide. `kind`: CSS classes; `more`: attributes.
std::string Overlay(const Scene& scene, const Raster& raster, const std::string& kind, const std::string& more = "");
// What belongs to one method, so that a reader may look at that alone.
std::string OfMethod(const std::string& title, const std::string& html);
// The image as shap draws on it: grey, at an opacity of .15, on white.
std::string PaleBase(const Scene& scene);
// A scale from blue to red that ends at +-limit.
std::string SignedScale(double limit);
std::string Missing(const std::string& title, const std::string& why);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_SCENE_H_
