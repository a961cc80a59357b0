#include "coordinator/services/question_desk.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/evaluation/judge.h"
#include "common/metrics.h"

namespace dermis {

// ---------------------------------------------------------------------------------------------------
// QuestionTeller

v1::ExplainConfidence QuestionTeller::Confidence() const {
  v1::ExplainConfidence confidence;
  if (familiarity_) {
    *confidence.mutable_familiarity() = *familiarity_;
    confidence.set_unlike(familiarity_->has_threshold() &&
                          familiarity_->distance() > familiarity_->threshold());
  }
  if (temperature_) confidence.set_temperature(*temperature_);
  if (threshold_) confidence.set_threshold(*threshold_);
  if (confidence.unlike()) return confidence;
  std::vector<float> logits = logits_;
  for (float& logit : logits) logit /= static_cast<float>(temperature_.value_or(1));
  for (const double probability : Softmax(logits)) confidence.add_probabilities(probability);
  return confidence;
}

std::vector<v1::ExplainUpdate> QuestionTeller::Hear(const QuestionNews& news) {
  std::vector<v1::ExplainUpdate> updates;
  const auto add = [&]() -> v1::ExplainUpdate& {
    v1::ExplainUpdate& update = updates.emplace_back();
    update.set_tasks_done(news.tasks_done);
    update.set_tasks_total(news.tasks_total);
    return update;
  };
  switch (news.kind) {
    case QuestionNews::Kind::kBegun: {
      v1::ExplainStart& start = *add().mutable_start();
      start = news.start;
      familiarity_follows_ = news.familiarity_follows;
      // Judged as the study judges itself; of its test images nothing is asked here.
      const auto images =
          ImagesToJudge(*news.manifest, news.validation_images, news.validation_images);
      absl::StatusOr<DecisionRule> rule = absl::UnknownError("");
      if (images.ok()) {
        rule = ChooseRule(*images, {news.validation_logits, {}});
      } else {
        rule = images.status();
      }
      if (rule.ok()) {
        temperature_ = rule->temperature;
        threshold_ = rule->threshold;
      } else {
        start.add_notes(absl::StrCat("the probability is as the model says it, not calibrated: ",
                                     news.validation_images.empty()
                                         ? "the study has no validation images"
                                         : rule.status().message()));
      }
      break;
    }
    case QuestionNews::Kind::kLogits: {
      logits_ = news.logits;
      const std::vector<double> probabilities = Softmax(logits_);
      uint32_t predicted = 0;
      for (uint32_t c = 1; c < probabilities.size(); ++c) {
        if (probabilities[c] >= probabilities[predicted]) predicted = c;  // As everywhere else.
      }
      if (threshold_) predicted = probabilities.back() >= *threshold_ ? 1 : 0;
      add().mutable_prediction()->set_predicted(predicted);
      break;
    }
    case QuestionNews::Kind::kFamiliarity:
      familiarity_ = news.familiarity;
      break;
    case QuestionNews::Kind::kMethod: {
      v1::ExplainMethod& method = *add().mutable_method();
      method = news.method;
      break;
    }
    case QuestionNews::Kind::kEnded:
      break;
  }
  const bool news_of_it =
      news.kind == QuestionNews::Kind::kLogits || news.kind == QuestionNews::Kind::kFamiliarity;
  if (news_of_it && !logits_.empty() && (familiarity_ || !familiarity_follows_)) {
    *add().mutable_confidence() = Confidence();
  }
  return updates;
}

// ---------------------------------------------------------------------------------------------------
// QuestionDesk

struct QuestionDesk::Shared {
  struct Open {
    std::string user;
    Hearer hearer;
    QuestionTeller teller;
    uint64_t in_core = 0;  // 0: the core has not begun it.
  };
  absl::Mutex mutex;
  bool stopped ABSL_GUARDED_BY(mutex) = false;
  absl::Status closed ABSL_GUARDED_BY(mutex);
  uint64_t last ABSL_GUARDED_BY(mutex) = 0;
  std::map<uint64_t, std::shared_ptr<Open>> open ABSL_GUARDED_BY(mutex);
  std::deque<std::pair<uint64_t, QuestionNews>> queue ABSL_GUARDED_BY(mutex);

  void Push(uint64_t question, QuestionNews news) {
    absl::MutexLock lock(&mutex);
    if (open.contains(question)) queue.emplace_back(question, std::move(news));
  }
  void End(uint64_t question, const absl::Status& status) {
    QuestionNews news;
    news.kind = QuestionNews::Kind::kEnded;
    news.status = status;
    Push(question, std::move(news));
  }
};

QuestionDesk::QuestionDesk(CoreThread& core)
    : core_(core), shared_(std::make_shared<Shared>()), thread_([this] { Loop(); }) {}

QuestionDesk::~QuestionDesk() {
  {
    absl::MutexLock lock(&shared_->mutex);
    shared_->stopped = true;
  }
  thread_.join();
}

uint64_t QuestionDesk::Ask(const std::string& study, const std::string& user, std::string pixels,
                           Hearer hearer) {
  uint64_t number = 0;
  absl::Status refusal;
  {
    absl::MutexLock lock(&shared_->mutex);
    const auto of_user =
        std::count_if(shared_->open.begin(), shared_->open.end(),
                      [&](const auto& entry) { return entry.second->user == user; });
    if (!shared_->closed.ok()) {
      refusal = shared_->closed;
    } else if (shared_->open.size() >= kAtOnce || of_user >= static_cast<int64_t>(kOfOneUser)) {
      refusal = absl::ResourceExhaustedError(
          absl::StrCat(of_user, " images of ", user, " and ", shared_->open.size(),
                       " in all are being explained; at most ", kOfOneUser, " and ", kAtOnce,
                       " are at once: wait for one of them"));
    } else if (pixels.size() > kMostBytes) {
      refusal = absl::InvalidArgumentError(absl::StrCat(
          "an image of ", pixels.size(), " bytes; at most ", kMostBytes, " are taken"));
    }
    number = ++shared_->last;
    auto open = std::make_shared<Shared::Open>();
    // One that is refused takes nobody's place: it ends at once.
    if (refusal.ok()) open->user = user;
    open->hearer = std::move(hearer);
    shared_->open[number] = std::move(open);
  }
  if (!refusal.ok()) {
    shared_->End(number, refusal);
    return number;
  }
  core_.Post([shared = shared_, number, study,
              pixels = std::make_shared<const std::string>(std::move(pixels))](Core& core) {
    {
      absl::MutexLock lock(&shared->mutex);
      if (!shared->open.contains(number)) return;  // It has left already.
    }
    const absl::StatusOr<uint64_t> asked =
        core.Ask(study, pixels,
                 [shared, number](QuestionNews news) { shared->Push(number, std::move(news)); });
    if (!asked.ok()) return shared->End(number, asked.status());
    absl::MutexLock lock(&shared->mutex);
    if (const auto it = shared->open.find(number); it != shared->open.end()) {
      it->second->in_core = *asked;
    } else {
      core.LeaveQuestion(*asked);
    }
  });
  return number;
}

void QuestionDesk::Leave(uint64_t question) {
  uint64_t in_core = 0;
  {
    absl::MutexLock lock(&shared_->mutex);
    const auto it = shared_->open.find(question);
    if (it == shared_->open.end()) return;
    in_core = it->second->in_core;
    shared_->open.erase(it);
  }
  if (in_core != 0) core_.Post([in_core](Core& core) { core.LeaveQuestion(in_core); });
}

void QuestionDesk::CloseAll(const std::string& why) {
  std::vector<uint64_t> open;
  {
    absl::MutexLock lock(&shared_->mutex);
    shared_->closed = absl::UnavailableError(absl::StrCat(why, ": ask again"));
    for (const auto& [number, entry] : shared_->open) open.push_back(number);
  }
  for (const uint64_t number : open) {
    shared_->End(number, absl::UnavailableError(absl::StrCat(why, ": ask again")));
  }
}

void QuestionDesk::Loop() {
  while (true) {
    std::pair<uint64_t, QuestionNews> next;
    std::shared_ptr<Shared::Open> open;
    {
      absl::MutexLock lock(&shared_->mutex);
      auto ready = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
        return shared_->stopped || !shared_->queue.empty();
      };
      shared_->mutex.Await(absl::Condition(&ready));
      if (shared_->stopped) return;
      next = std::move(shared_->queue.front());
      shared_->queue.pop_front();
      const auto it = shared_->open.find(next.first);
      if (it == shared_->open.end()) continue;
      open = it->second;
    }
    if (next.second.kind == QuestionNews::Kind::kEnded) {
      Leave(next.first);
      open->hearer.end(next.second.status);
      continue;
    }
    for (v1::ExplainUpdate& update : open->teller.Hear(next.second)) {
      open->hearer.update(std::move(update));
    }
  }
}

}  // namespace dermis
