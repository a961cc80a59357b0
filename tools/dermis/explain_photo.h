// `dermis explain --study S photo.jpg`: what a study's model says of one image, computed by its
// cluster and kept nowhere.
#ifndef DERMIS_TOOLS_DERMIS_EXPLAIN_PHOTO_H_
#define DERMIS_TOOLS_DERMIS_EXPLAIN_PHOTO_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/question.pb.h"
#include "tools/dermis/output.h"

namespace dermis {

// What is said with every answer.
inline constexpr char kResearchNote[] =
    "Research, not diagnosis: a model's output on one image says nothing about a person's health. "
    "Show a "
    "doctor what worries you.";

// And with one that ended too early.
inline constexpr char kPartialNote[] = "the question ended too early: this is a part of the answer";

struct PhotoOptions {
  std::string cluster, study, photo;
  std::string format = "text";  // Or json.
  std::string folder;           // Empty: no files are written.
};

// The whole answer, gathered from its updates.
struct PhotoAnswer {
  v1::ExplainStart start;
  v1::ExplainPrediction prediction;
  v1::ExplainConfidence confidence;
  std::vector<v1::ExplainMethod> methods;
  bool has_prediction = false, has_confidence = false;
  bool partial = false;  // It ended with an error.
};

void AddUpdate(v1::ExplainUpdate update, PhotoAnswer& answer);

// Prints the answer and writes the folder as `dermis explain --model` does. CANCELLED: interrupted.
// Other errors may come after a part of the answer, which is printed and says so.
absl::StatusOr<PhotoAnswer> ExplainPhoto(const PhotoOptions& options);

// For people, and for programs. `manifest`: of the study's image set.
std::string TextOf(const PhotoAnswer& answer, const v1::ImageSetManifest& manifest,
                   const std::string& photo);
Json JsonOf(const PhotoAnswer& answer, const v1::ImageSetManifest& manifest,
            const std::string& photo);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_EXPLAIN_PHOTO_H_
