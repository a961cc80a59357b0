// What `dermis explain` leaves: overlays, numbers and the report of a study that is done.
#ifndef DERMIS_TOOLS_DERMIS_EXPLAIN_OUTPUT_H_
#define DERMIS_TOOLS_DERMIS_EXPLAIN_OUTPUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "dermis/v1/studies.pb.h"
#include "tools/report/report.h"

namespace dermis {

// Short names of the methods, as files and columns have them: "lime", "shapley", and "shapley-2"
// for a second one.
std::vector<std::string> MethodKeys(const v1::ExplanationSpec& spec);

// Short name of a baseline, as files and columns have it: "random-forest-16", of 16 pixels a side.
std::string ModelKey(const v1::BaselineResult& baseline);

// Writes into the folder (there and empty). METHOD is a method's short name; of a baseline
// MODEL.METHOD, "random-forest-16.lime":
//   report.html           what `dermis report` writes
//   scores.csv            what `dermis results --scores` writes
//   attributions.csv      image,method,superpixel,pixels,value,standard_error,model: a row a
//                         superpixel; model: "network" or a baseline's short name
//   attributions.safetensors
//     IMAGE/METHOD/values, /standard_errors   [S] F64
//     IMAGE/METHOD                            [h, w, channels] F32, of pixels; /standard_errors
//                                             [h, w] F32, of their sums over channels
//     IMAGE/METHOD/LAYER                      [h, w] F32, of maps
//     IMAGE/superpixels, /superpixels-2, ...  [H, W] U16, labels from 0; the metadata's
//                                             "superpixels of METHOD" says which are a method's
//   overlays/IMAGE.METHOD.png or, of maps, IMAGE.METHOD.LAYER.png; '/' in a name becomes '_'
// report: whether to write the report and the scores. Gives the number of overlays. Errors: disk, a
// result that cannot be had.
absl::StatusOr<uint32_t> WriteExplanations(const v1::StudyResults& results,
                                           const ReportInputs& inputs, const std::string& folder,
                                           bool report = true);

// The same into `folder`, which must not be there: made as FOLDER.part and renamed when it is whole.
absl::StatusOr<uint32_t> MakeExplanations(const v1::StudyResults& results,
                                          const ReportInputs& inputs, const std::string& folder,
                                          bool report = true);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_EXPLAIN_OUTPUT_H_
