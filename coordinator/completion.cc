// Checks of completions, away from the core thread.
#include "coordinator/completion.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/tasks.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {
namespace {

CheckedCompletion& Refuse(CheckedCompletion& out, std::string cause) {
  out.verdict = v1::CompletionReply::REFUSED;
  out.cause = std::move(cause);
  return out;
}

// Of tasks that look at single images; else none.
std::string ImageSetOf(const v1::TaskSpec& spec) {
  switch (spec.kind_case()) {
    case v1::TaskSpec::kEvaluate:
      return spec.evaluate().images().image_set();
    case v1::TaskSpec::kSuperpixels:
      return spec.superpixels().image_set();
    case v1::TaskSpec::kPerturb:
      return spec.perturb().perturbation().images().image_set();
    case v1::TaskSpec::kFit:
      return spec.fit().perturbation().images().image_set();
    case v1::TaskSpec::kActivations:
      return spec.activations().images().image_set();
    case v1::TaskSpec::kGradient:
      return spec.gradient().images().image_set();
    case v1::TaskSpec::kFidelity:
      return spec.fidelity().images().image_set();
    case v1::TaskSpec::kStability:
      return spec.stability().images().image_set();
    default:
      return "";
  }
}

// Whether it is about somebody's one picture (`dermis explain --keep`), of which nothing may stay
// when it is deleted.
bool IsOfAPicture(const v1::TaskSpec& spec, const BlobIndex& blobs) {
  // Of one image it is smaller. Others are not read: this is done for each completion.
  constexpr uint64_t kMost = 4 << 10;
  const absl::StatusOr<Digest> images = Digest::FromBytes(ImageSetOf(spec));
  if (!images.ok() || images->none()) return false;
  const uint64_t size = blobs.Size(*images);
  if (size == 0 || size > kMost) return false;
  const absl::StatusOr<std::string> bytes = blobs.Read(*images);
  v1::ImageSetManifest manifest;
  return bytes.ok() && manifest.ParseFromString(*bytes) && manifest.unlabelled() &&
         manifest.images_size() == 1;
}

}  // namespace

CheckedCompletion CheckCompletion(v1::Completion completion, const BlobIndex& blobs) {
  CheckedCompletion out;
  out.completion = std::move(completion);
  const v1::TaskSpec& spec = out.completion.spec();
  v1::TaskResult& result = *out.completion.mutable_result();
  if (spec.kind_case() == v1::TaskSpec::KIND_NOT_SET) return Refuse(out, "a task without a kind");
  if (spec.semantics() != SemanticsOf(spec.kind_case())) {
    return Refuse(out, absl::StrCat("semantics ", spec.semantics(), " of ", Describe(spec),
                                    ", not ", SemanticsOf(spec.kind_case()),
                                    ": is the worker of the coordinator's version?"));
  }
  absl::StatusOr<Digest> task = TaskDigest(spec);
  if (!task.ok()) return Refuse(out, std::string(task.status().message()));
  out.task = *task;
  if (!result.task().empty() && result.task() != out.task.bytes()) {
    return Refuse(out, absl::StrCat("the result names another task than its spec, ",
                                    out.task.short_hex(), " (", Describe(spec), ")"));
  }
  result.set_task(out.task.bytes());

  std::string from_blob;
  if (!result.payload_blob().empty()) {
    if (!result.payload().empty()) return Refuse(out, "a payload both inline and as a blob");
    absl::StatusOr<Digest> blob = Digest::FromBytes(result.payload_blob());
    if (!blob.ok()) return Refuse(out, std::string(blob.status().message()));
    absl::StatusOr<std::string> bytes = absl::NotFoundError("");
    if (blobs.Has(*blob)) bytes = blobs.Read(*blob);
    if (!bytes.ok()) {  // Absent, or damaged and dropped: the worker has it.
      out.verdict = v1::CompletionReply::MISSING;
      out.missing.push_back(*blob);
      return out;
    }
    from_blob = *std::move(bytes);
    result.set_payload_digest(blob->bytes());
  } else {
    if (result.payload().size() > kInlinePayload) {
      return Refuse(out, absl::StrCat("an inline payload of ", result.payload().size(),
                                      " bytes; beyond ", kInlinePayload, " it must be a blob"));
    }
    const Digest digest = Sha256Of(result.payload());
    result.set_payload_digest(digest.bytes());
    if (IsOfAPicture(spec, blobs)) {
      // Rows of the journal stay for ever, blobs go with their study.
      out.verdict = v1::CompletionReply::MISSING;
      out.missing.push_back(digest);
      return out;
    }
  }
  auto payload = std::make_shared<v1::Payload>();
  if (!payload->ParseFromString(from_blob.empty() ? result.payload() : from_blob)) {
    return Refuse(out, absl::StrCat("the payload of ", Describe(spec), " does not parse"));
  }
  if (absl::Status status = CheckPayload(spec, *payload); !status.ok()) {
    return Refuse(out, std::string(status.message()));
  }
  result.clear_blobs();
  for (const Digest& blob : BlobsOf(*payload)) {
    result.add_blobs(blob.bytes());
    if (!blobs.Has(blob)) out.missing.push_back(blob);
  }
  if (!out.missing.empty()) {
    out.verdict = v1::CompletionReply::MISSING;
    return out;
  }
  if (spec.has_train() || spec.has_evaluate()) out.payload = std::move(payload);
  return out;
}

}  // namespace dermis
