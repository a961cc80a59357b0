#include "tools/report/scene.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "tools/report/explained.h"
#include "tools/report/plot.h"

namespace dermis {

std::string Figure(const std::string& picture, const std::string& caption,
                   const std::string& kind) {
  return absl::StrCat("<figure", kind.empty() ? "" : absl::StrCat(" class=\"", kind, "\""), ">",
                      picture, "<figcaption>", caption, "</figcaption></figure>");
}

std::string OpenSvg(const Scene& scene, const std::string& alt) {
  return absl::StrCat("<svg class=\"picture\" viewBox=\"0 0 ", scene.width, " ", scene.height,
                      "\" role=\"img\" aria-label=\"", Escape(alt), "\">");
}

std::string UseBase(const Scene& scene, const std::string& more) {
  return absl::StrCat("<use href=\"#", scene.id, "\"", more, "/>");
}

std::string Overlay(const Scene& scene, const Raster& raster, const std::string& kind, const std::string& more) {
  return absl::StrCat("<image width=\"", scene.width, "\" height=\"", scene.height,
                      "\" preserveAspectRatio=\"none\" class=\"overlay", kind.empty() ? "" : " ", kind, "\" ", more, " href=\"",
                      PngUri(raster), "\"/>");
}

std::string OfMethod(const std::string& title, const std::string& html) {
  return absl::StrCat("<div class=\"of-method\" data-method=\"", Escape(title), "\">", html, "</div>");
}

std::string PaleBase(const Scene& scene) {
  return absl::StrCat("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
                      UseBase(scene, " filter=\"url(#grey)\" opacity=\".15\""));
}

std::string SignedScale(double limit) {
  // Small limits, as of single pixels, keep their first digits.
  const int digits = limit >= 0.1 || limit == 0 ? 3 : limit >= 0.001 ? 5 : 7;
  return absl::StrCat("<span class=\"scale\"><span>", Number(-limit, digits),
                      "</span><i></i><span>+", Number(limit, digits), "</span></span>");
}

std::string Missing(const std::string& title, const std::string& why) {
  return absl::StrCat("<p class=\"missing\"><b>", Escape(title), "</b> ", Escape(why), "</p>");
}

}  // namespace dermis
