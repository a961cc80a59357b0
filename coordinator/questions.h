// What people ask about single images ("explain this image"): the units that a study would have for
// the image, computed ahead of all studies' work. All of it is in memory, for as long as whoever
// asked is there: nothing of an image, of its tasks or of their results is an event, a blob, or a
// line of the log. After a restart of the coordinator whoever asked asks again.
//
// Tasks of a question are those of a study, but for an image that no address names: the one after
// the set's last (question.proto). So their digests mean something within their question alone, and
// none ever reaches a study's state.
#ifndef DERMIS_COORDINATOR_QUESTIONS_H_
#define DERMIS_COORDINATOR_QUESTIONS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/digest.h"
#include "coordinator/planners/explanation.h"
#include "coordinator/studies.h"
#include "dermis/v1/cluster.pb.h"
#include "dermis/v1/image_set.pb.h"
#include "dermis/v1/question.pb.h"

namespace dermis {

// What is heard of a question, in this order: begun; then, as they are known, logits, familiarity
// and methods; last how it ended.
struct QuestionNews {
  enum class Kind { kBegun, kLogits, kFamiliarity, kMethod, kEnded } kind = Kind::kBegun;
  // kBegun.
  v1::ExplainStart start;
  std::shared_ptr<const v1::ImageSetManifest> manifest;
  std::vector<uint32_t> validation_images;  // And their logits: what a rule is fitted on.
  std::vector<float> validation_logits;
  bool familiarity_follows = false;

  std::vector<float> logits;
  v1::Familiarity familiarity;
  v1::ExplainMethod method;
  absl::Status status;  // kEnded.

  uint32_t tasks_done = 0, tasks_total = 0;
};

// The core thread's own.
class Questions {
 public:
  // So many losses of one task's workers, or workers that could not, end its question.
  static constexpr uint32_t kTries = 6;
  // A question that is not answered by then ends.
  static constexpr absl::Duration kPatience = absl::Minutes(10);

  // `studies` outlives this.
  explicit Questions(const Studies& studies) : studies_(studies) {}

  // Called on the core thread: it must be quick.
  using Tell = std::function<void(QuestionNews)>;
  // Begins a question; `tell` has heard kBegun when this returns. `pixels`: as the study's set
  // would hold the image; not copied. Empty: only told what would come, kBegun and kEnded; gives 0.
  // NOT_FOUND names the studies there are; INVALID_ARGUMENT: the image's size; FAILED_PRECONDITION:
  // the study has no model yet.
  absl::StatusOr<uint64_t> Ask(const std::string& study, std::shared_ptr<const std::string> pixels,
                               absl::Duration now, Tell tell);
  // Whoever asked has gone. Nothing more is told.
  void Leave(uint64_t question) { questions_.erase(question); }
  bool Has(uint64_t question) const { return questions_.contains(question); }
  size_t size() const { return questions_.size(); }

  // --- For the fleet.
  // Time passes: what took too long ends.
  void Look(absl::Duration now);
  // How many tasks of questions of this class could run now.
  size_t Ready(const std::string& numerics_class, absl::Duration now) const;
  struct Bundle {
    uint64_t question = 0;
    std::string study;
    std::vector<Digest> tasks;
    v1::TaskSpec::KindCase kind = v1::TaskSpec::KIND_NOT_SET;
    v1::Bundle bundle;
  };
  struct Taker {
    std::string name, numerics_class;
    bool others = false;                          // Workers of its class are here beside it.
    const std::vector<std::string>* free = nullptr;  // Of its class, itself among them.
  };
  // Tasks of one kind and one question, the oldest question's first. The familiarity comes last, to a
  // worker that answered one of the model before where such a one is free. `most`: how many tasks of
  // a kind one is to take.
  std::optional<Bundle> Take(const Taker& taker, absl::Duration now, uint64_t assignment,
                             const std::function<size_t(v1::TaskSpec::KindCase)>& most);
  // What a worker said with the end of an assignment.
  void Ended(uint64_t question, uint64_t assignment, const std::string& worker,
             const v1::AttemptEnded& ended, absl::Duration now);
  // The assignment is over: what it has not done waits again. `could_not`: the worker was lost, or
  // could not; others are asked first.
  void GiveBack(uint64_t question, uint64_t assignment, const std::string& worker, bool could_not,
                absl::Duration now);

 private:
  struct Task {
    v1::TaskSpec spec;  // Of the familiarity: without a kind.
    bool done = false;
    uint64_t assignment = 0;
    uint32_t tries = 0;
    std::string avoid;  // The worker of the last one.
    absl::Duration not_before = -absl::InfiniteDuration();
    std::string payload;  // Serialised: what other tasks need.
  };
  struct Question {
    std::string study, numerics_class;
    std::shared_ptr<const std::string> pixels;
    absl::Duration until;
    Tell tell;
    std::unique_ptr<ExplanationPlanner> planner;
    std::vector<v1::MethodSpec> open;  // Methods that are not told yet.
    Digest evaluate;
    uint32_t image = 0, classes = 0;  // Its index, and the set's.
    std::optional<v1::FamiliarityQuestion> familiarity;  // Its task is the one under no digest.
    Digest space;                     // Who asks for the same has the same training images' features.
    std::map<Digest, Task> tasks;
    std::deque<Digest> queue;
    uint32_t done = 0;
  };

  const Study* Find(const std::string& id) const;  // Null: there is none.
  // The familiarity of the question, if this worker may take it now.
  bool MayMeasure(const Question& question, const Taker& taker) const;
  static absl::Status CheckFamiliarity(const Question& question, const v1::Familiarity& familiarity);
  absl::Status Add(Question& question, v1::TaskSpec spec);
  absl::Status AddAll(Question& question, absl::StatusOr<ExplanationPlanner::Wants> wants);
  // The payload of a task, checked; tells what it says.
  absl::Status Note(Question& question, const v1::GivenResult& result);
  absl::Status TellMethods(Question& question);
  void Count(const Question& question, QuestionNews& news) const;
  void End(uint64_t question, const absl::Status& status);
  bool Over(const Question& question) const;

  const Studies& studies_;
  uint64_t last_ = 0;
  std::map<Digest, std::string> measured_;  // Space -> the worker that has it, of the last few.
  std::map<uint64_t, Question> questions_;  // The oldest first.
};

// The methods of a question about a study's model: the study's own lime, shapley and grad_cam where
// it has them, else the usual ones. `notes`: what is left out or otherwise, and why.
absl::StatusOr<v1::ExplanationSpec> ExplanationOfQuestion(const v1::StudySpec& study,
                                                          std::vector<std::string>& notes);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_QUESTIONS_H_
