// How a study unfolds into tasks: shared by the planners (which want them), workers (which run them) and
// readers of results. Pure functions.
#ifndef DERMIS_COMMON_TASKS_H_
#define DERMIS_COMMON_TASKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/digest.h"
#include "dermis/v1/spec.pb.h"
#include "dermis/v1/task.pb.h"

namespace dermis {

// Software version: coordinator and workers must be of the same.
extern const char kVersion[];

// The semantics number of each task kind (index = oneof case). Raised when bits change on purpose;
// golden digests in tests/unit/common/tasks_test.cc fail when they change by accident.
uint32_t SemanticsOf(v1::TaskSpec::KindCase kind);

// Fills `semantics` from the kind.
v1::TaskSpec MakeTask(v1::TaskSpec spec, const std::string& numerics_class);
absl::StatusOr<Digest> TaskDigest(const v1::TaskSpec& task);   // = MessageDigest
absl::StatusOr<Digest> RecipeDigest(const v1::Recipe& recipe, const std::string& numerics_class);

v1::Recipe RecipeOf(const v1::StudySpec& resolved, const Digest& image_set);
v1::TaskSpec TrainTaskOf(const v1::Recipe& recipe, uint64_t step, const std::string& numerics_class);

// Runs of perturbations.
inline constexpr uint32_t kLimeRun = 250;      // Masks a run.
inline constexpr uint32_t kShapleyRun = 2;     // Antithetic pairs a run.
inline constexpr uint32_t kMaskRun = 256;      // Masks a run, of all other methods.
uint32_t RunCount(const v1::Perturbation& perturbation);
// images.hide as a task names it.
v1::Hide HideOf(const v1::HideSpec& spec);
// What its masks refer to.
v1::TaskSpec SuperpixelTaskOf(const v1::Perturbation& perturbation, const std::string& numerics_class);
v1::TaskSpec PerturbTaskOf(const v1::Perturbation& perturbation, uint32_t run,
                           const std::string& numerics_class);
// Steps of an epoch: full batches only; the remainder is left out.
inline uint64_t StepsPerEpoch(uint64_t training_images, uint32_t batch_size) {
  return training_images / batch_size;
}

// What an explanation asks for, at most: as if no two tasks were equal, and with as many superpixels as
// were asked for (the image decides how many there are).
struct ExplanationSize {
  uint64_t images = 0;
  uint64_t tasks = 0;
  uint64_t inputs = 0;  // Masked ones that the model is run on.
};
// `spec` resolved; test: images of the test split; classes: of the image set.
ExplanationSize SizeOf(const v1::ExplanationSpec& spec, uint64_t test, uint64_t classes);
// The same of its baselines, all together; 0 tasks where they are not explained.
ExplanationSize SizeOfExplainedBaselines(const v1::StudySpec& spec, uint64_t test,
                                         uint64_t classes);

// What a payload must look like to be a result of the task (kinds match, sizes, finite where they must
// be): checked by the coordinator before it stores a completion.
absl::Status CheckPayload(const v1::TaskSpec& task, const v1::Payload& payload);

// Serialised payloads up to this size live in the journal, larger ones are blobs.
inline constexpr size_t kInlinePayload = 16 << 10;

// Whether its function reads results of other tasks.
bool UsesResults(const v1::TaskSpec& task);

// Blobs that a payload names.
std::vector<Digest> BlobsOf(const v1::Payload& payload);

// For people: "train 3f2a.. to step 1200", "perturb image 17, lime run 2".
std::string Describe(const v1::TaskSpec& task);

}  // namespace dermis

#endif  // DERMIS_COMMON_TASKS_H_
