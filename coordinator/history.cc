#include "coordinator/history.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/sweep.h"
#include "common/tasks.h"

namespace dermis {
namespace {

std::string KindOf(const v1::TaskSpec& task) {
  const auto* descriptor = v1::TaskSpec::descriptor();
  const auto* field = descriptor->FindFieldByNumber(task.kind_case());
  return field == nullptr ? "" : field->name();
}

std::string Describe(const v1::StudyAdjusted& adjusted) {
  const v1::Adjustment& adjust = adjusted.adjust();
  std::vector<std::string> parts;
  if (adjust.has_paused()) {
    parts.push_back(adjust.paused() ? absl::StrCat("paused ", adjusted.why()) : "resumed");
  }
  if (adjust.has_priority()) parts.push_back(absl::StrCat("priority ", adjust.priority()));
  if (adjust.has_max_hours()) {
    parts.push_back(adjust.max_hours() > 0
                        ? absl::StrCat("a budget of ", adjust.max_hours(), " worker-hours")
                        : "no budget");
  }
  return absl::StrJoin(parts, ", ");
}

class Teller {
 public:
  Teller(const Studies& studies, const std::string& id)
      : studies_(studies), id_(id), study_(*studies.all().at(id)) {}

  void Tell(const Journal::Row& row, v1::HistoryResponse& response) const {
    const v1::Event& event = row.entry.event;
    v1::HistoryEvent out;
    out.set_unix_ms(event.unix_ms());
    switch (event.kind_case()) {
      case v1::Event::kStudySubmitted:
        if (event.study_submitted().id() != id_) return;
        out.set_kind(v1::HistoryEvent::SUBMITTED);
        out.set_text(absl::StrCat("by ", event.study_submitted().user()));
        break;
      case v1::Event::kStudyCancelled:
        if (event.study_cancelled().id() != id_) return;
        out.set_kind(v1::HistoryEvent::CANCELLED);
        break;
      case v1::Event::kStudyAdjusted:
        if (event.study_adjusted().id() != id_) return;
        out.set_kind(v1::HistoryEvent::ADJUSTED);
        out.set_text(Describe(event.study_adjusted()));
        break;
      case v1::Event::kFailuresCleared:
        if (event.failures_cleared().study() != id_) return;
        out.set_kind(v1::HistoryEvent::RETRIED);
        break;
      case v1::Event::kTaskCompleted:
        if (!Has(row.entry)) return;
        TellCompleted(event.task_completed(), out);
        break;
      case v1::Event::kAttemptLost:
        if (!Names(event.attempt_lost().task(), out)) return;
        out.set_kind(v1::HistoryEvent::LOST);
        out.add_workers(event.attempt_lost().worker());
        out.set_text(event.attempt_lost().cause());
        break;
      case v1::Event::kTaskFailed: {
        const auto& failed = event.task_failed();
        if (std::find(failed.studies().begin(), failed.studies().end(), id_) ==
            failed.studies().end()) {
          return;
        }
        Names(failed.task(), out);
        out.set_kind(v1::HistoryEvent::FAILED);
        out.add_workers(failed.worker());
        out.set_text(failed.cause());
        break;
      }
      default:
        return;
    }
    *response.add_events() = std::move(out);
  }

 private:
  bool Has(const JournalEntry& entry) const {
    if (study_.run == nullptr) return false;
    const v1::TaskSpec& task = entry.event.task_completed().spec();
    if (!task.has_train()) return study_.run->Has(entry.task);
    const absl::StatusOr<Digest> recipe =
        RecipeDigest(task.train().recipe(), task.numerics_class());
    return recipe.ok() && study_.run->sweep().Find(*recipe) != nullptr;
  }

  static void TellCompleted(const v1::TaskCompleted& done, v1::HistoryEvent& out) {
    out.set_kind(v1::HistoryEvent::COMPLETED);
    const v1::Attempt& attempt = done.attempt();
    out.set_unix_ms(StartOf(attempt, out.unix_ms()));
    out.set_seconds(attempt.seconds());
    *out.mutable_workers() = attempt.gang();
    if (out.workers().empty()) out.add_workers(attempt.worker());
    out.set_task_kind(KindOf(done.spec()));
    out.set_task(dermis::Describe(done.spec()));
  }

  // A task that has no result is known by its digest alone, or, while it is wanted, by its spec.
  bool Names(const std::string& bytes, v1::HistoryEvent& out) const {
    const absl::StatusOr<Digest> task = Digest::FromBytes(bytes);
    if (!task.ok() || study_.run == nullptr) return false;
    if (const std::vector<uint32_t>* found = study_.run->sweep().Find(*task)) {
      out.set_task_kind("train");
      const uint32_t trial = study_.run->sweep().training(found->front()).trial;
      out.set_task(study_.run->sweep().trials().size() == 1 ? "training"
                                                            : absl::StrCat("trial ", trial));
      return true;
    }
    out.set_task(absl::StrCat("task ", task->short_hex()));
    if (const auto unit = studies_.units().find(*task); unit != studies_.units().end()) {
      out.set_task_kind(KindOf(unit->second.spec));
      out.set_task(dermis::Describe(unit->second.spec));
    } else if (const auto failed = study_.failed.find(*task); failed != study_.failed.end()) {
      out.set_task_kind(KindOf(failed->second.spec));
      out.set_task(dermis::Describe(failed->second.spec));
    }
    return study_.run->Has(*task);
  }

  const Studies& studies_;
  const std::string& id_;
  const Study& study_;
};

}  // namespace

uint64_t StartOf(const v1::Attempt& attempt, uint64_t stored_unix_ms) {
  constexpr double kApart = 60'000, kLate = 3'600'000;
  const double took =
                   std::isfinite(attempt.seconds()) ? std::max(0.0, attempt.seconds()) * 1000 : 0,
               ended = static_cast<double>(attempt.started_unix_ms()) + took,
               stored = static_cast<double>(stored_unix_ms);
  if (ended <= stored + kApart && ended >= stored - kLate) return attempt.started_unix_ms();
  return static_cast<uint64_t>(std::clamp(stored - took, 0.0, stored));
}

absl::StatusOr<v1::HistoryResponse> ViewHistory(const Studies& studies, const std::string& id,
                                                const std::vector<Journal::Row>& rows) {
  const auto record = studies.state().studies().find(id);
  if (record == studies.state().studies().end()) {
    return absl::NotFoundError(absl::StrCat("no study ", id, "; `dermis status` lists them"));
  }
  const Teller teller(studies, id);
  v1::HistoryResponse response;
  for (const Journal::Row& row : rows) {
    response.set_next_row(row.row);
    if (row.row >= record->second.row) teller.Tell(row, response);
  }
  // What lies before it need not be read.
  if (!rows.empty() && response.next_row() + 1 < record->second.row) {
    response.set_next_row(record->second.row - 1);
  }
  return response;
}

}  // namespace dermis
