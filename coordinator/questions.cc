#include "coordinator/questions.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/checks.h"
#include "common/spec_yaml.h"
#include "common/status_macros.h"
#include "common/tasks.h"

namespace dermis {
namespace {

constexpr uint32_t kNearest = 5;  // Training images that are shown.
// An image's distance from the training images is that to the so many-th nearest: one or two alike
// may be a chance.
constexpr uint32_t kNeighbours = 10;
// A payload of the tasks of a question: a network's maps are a few MiB.
constexpr size_t kMostPayload = 48 << 20;
constexpr size_t kMostMeasured = 256;  // Models of which it is remembered who measured.

// Superpixels that need what only images of a set have.
bool NeedsMask(const v1::SuperpixelSpec& superpixels) {
  return superpixels.has_label_map() || superpixels.has_lesion_zones();
}

std::string NameOf(const v1::TaskSpec& task) {
  return task.kind_case() == v1::TaskSpec::KIND_NOT_SET ? "familiarity" : Describe(task);
}

// The first method of that kind; none.
template <typename Is>
v1::MethodSpec* Find(v1::ExplanationSpec& explanation, Is is) {
  const auto at = std::find_if(explanation.mutable_methods()->begin(),
                               explanation.mutable_methods()->end(), is);
  return at == explanation.mutable_methods()->end() ? nullptr : &*at;
}

}  // namespace

absl::StatusOr<v1::ExplanationSpec> ExplanationOfQuestion(const v1::StudySpec& study,
                                                          std::vector<std::string>& notes) {
  v1::ExplanationSpec own = study.explanation();
  v1::StudySpec bare;  // To have its explanation resolved as a study's.
  bare.set_name("question");
  bare.mutable_images()->set_set("question");
  v1::ExplanationSpec& explanation = *bare.mutable_explanation();
  explanation.set_output(own.output());
  if (own.has_hiding()) *explanation.mutable_hiding() = own.hiding();
  if (own.has_background()) *explanation.mutable_background() = own.background();
  const v1::MethodSpec* lime = Find(own, [](const auto& m) { return m.has_lime(); });
  const v1::MethodSpec* shapley = Find(own, [](const auto& m) { return m.has_shapley(); });
  v1::LimeSpec& by_lime = *explanation.add_methods()->mutable_lime();
  if (lime != nullptr) by_lime = lime->lime();
  v1::ShapleySpec& by_shapley = *explanation.add_methods()->mutable_shapley();
  if (shapley != nullptr) by_shapley = shapley->shapley();
  if (NeedsMask(by_lime.superpixels()) || NeedsMask(by_shapley.superpixels())) {
    notes.push_back(
        "the study cuts images by masks or label maps, which this image has none of: it is cut by "
        "colour and place (slic)");
    if (NeedsMask(by_lime.superpixels())) by_lime.clear_superpixels();
    if (NeedsMask(by_shapley.superpixels())) by_shapley.clear_superpixels();
  }
  if (study.model().format() == v1::MODEL_FORMAT_UNSPECIFIED ||
      study.model().format() == v1::MODEL_FORMAT_SAFETENSORS) {
    explanation.add_methods()->mutable_grad_cam();
  } else {
    notes.push_back("the model is a black box: there is no Grad-CAM of it");
  }
  if (study.images().has_hide()) {
    notes.push_back(
        "the study hides a part of each image by its mask; this image has none and is shown whole");
  }
  ASSIGN_OR_RETURN(v1::StudySpec resolved, ResolveSpec(bare));
  return std::move(*resolved.mutable_explanation());
}

absl::StatusOr<uint64_t> Questions::Ask(const std::string& id,
                                        std::shared_ptr<const std::string> pixels,
                                        absl::Duration now, Tell tell) {
  const Study* study = Find(id);
  const auto record = studies_.state().studies().find(id);
  if (study == nullptr || record == studies_.state().studies().end()) {
    return absl::NotFoundError(absl::StrCat("no study ", id));
  }
  if (study->run == nullptr || record->second.cancelled || !study->run->answers()) {
    return absl::FailedPreconditionError(
        absl::StrCat("study ", id,
                     record->second.cancelled ? " is cancelled: run it again" : " has no model yet",
                     record->second.cancelled ? ""
                                              : " whose validation images are evaluated: wait for "
                                                "it (dermis wait, dermis status), then "
                                                "ask again"));
  }
  const StudyRun& run = *study->run;
  const v1::ImageSetManifest& manifest = run.manifest();
  QuestionNews news;
  news.start.set_study(id);
  news.start.set_image_set(record->second.image_set.bytes());
  if (manifest.width() != manifest.height()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the images of study ", id, " are ", manifest.width(), " x ", manifest.height(),
                     " pixels: pictures are taken for square ones alone"));
  }
  const v1::Recipe& recipe = run.final_recipe();
  const v1::ModelRef& model = run.evaluation()->model();
  news.familiarity_follows = !model.has_foreign() && !run.split().training.empty();
  std::vector<std::string> notes;
  if (!news.familiarity_follows) {
    notes.push_back(
        "nothing tells whether this image is like the training images: the model shows no "
        "features, or no training images are known");
  } else if (run.split().validation.empty()) {
    notes.push_back(
        "nothing tells whether this image is like the training images, only which of them are "
        "nearest: there are no validation images to compare it with");
  }
  ASSIGN_OR_RETURN(const v1::ExplanationSpec explanation, ExplanationOfQuestion(run.spec(), notes));
  *news.start.mutable_methods() = explanation.methods();
  news.manifest = run.shared_manifest();
  news.validation_images = run.validation()->listed();
  news.validation_logits = run.validation()->logits();
  if (pixels->empty()) {
    news.start.mutable_notes()->Assign(notes.begin(), notes.end());
    tell(std::move(news));
    QuestionNews end;
    end.kind = QuestionNews::Kind::kEnded;
    tell(std::move(end));
    return 0;
  }
  const uint64_t bytes = uint64_t{manifest.height()} * manifest.width() * 3;
  if (pixels->size() != bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image of ", pixels->size(), " bytes; the images of study ", id, " are ",
                     manifest.width(), " x ", manifest.height(), " pixels, ", bytes, " bytes"));
  }

  const auto index = static_cast<uint32_t>(manifest.images_size());

  Question question;
  question.study = id;
  question.numerics_class = record->second.numerics_class;
  question.pixels = std::move(pixels);
  question.image = index;
  question.classes = static_cast<uint32_t>(manifest.classes_size());
  question.until = now + kPatience;
  question.open.assign(explanation.methods().begin(), explanation.methods().end());

  v1::TaskSpec evaluate;
  v1::EvaluateTask& task = *evaluate.mutable_evaluate();
  *task.mutable_images() = recipe.images();
  *task.mutable_model() = model;
  task.set_precision(recipe.precision());
  task.set_count(1);
  evaluate = MakeTask(std::move(evaluate), question.numerics_class);
  ASSIGN_OR_RETURN(question.evaluate, TaskDigest(evaluate));
  RETURN_IF_ERROR(Add(question, std::move(evaluate)));
  if (news.familiarity_follows) {
    v1::FamiliarityQuestion& familiarity = question.familiarity.emplace();
    *familiarity.mutable_images() = recipe.images();
    *familiarity.mutable_model() = model;
    familiarity.set_neighbours(kNeighbours);
    familiarity.set_nearest(kNearest);
    ASSIGN_OR_RETURN(question.space, MessageDigest(familiarity));
    question.tasks[Digest()];
    question.queue.emplace_back();
  }
  question.planner = std::make_unique<ExplanationPlanner>(
      explanation, recipe, model, run.spec().seed(), std::vector<ChosenImage>{{index, "asked for"}},
      question.numerics_class, /*brief=*/true);
  RETURN_IF_ERROR(AddAll(question, question.planner->Start()));

  news.start.mutable_notes()->Assign(notes.begin(), notes.end());
  Count(question, news);
  question.tell = std::move(tell);
  question.tell(std::move(news));
  questions_.emplace(++last_, std::move(question));
  return last_;
}

const Study* Questions::Find(const std::string& id) const {
  const auto it = studies_.all().find(id);
  return it == studies_.all().end() ? nullptr : it->second.get();
}

absl::Status Questions::Add(Question& question, v1::TaskSpec spec) {
  ASSIGN_OR_RETURN(const Digest digest, TaskDigest(spec));
  const auto [it, fresh] = question.tasks.try_emplace(digest);
  if (!fresh) return absl::OkStatus();
  it->second.spec = std::move(spec);
  question.queue.push_back(digest);
  return absl::OkStatus();
}

absl::Status Questions::AddAll(Question& question,
                               absl::StatusOr<ExplanationPlanner::Wants> wants) {
  RETURN_IF_ERROR(wants.status());
  for (auto& [digest, spec] : *wants) RETURN_IF_ERROR(Add(question, std::move(spec)));
  return absl::OkStatus();
}

void Questions::Count(const Question& question, QuestionNews& news) const {
  const auto others = static_cast<uint32_t>(question.familiarity ? 2 : 1);
  news.tasks_done = question.done;
  news.tasks_total = static_cast<uint32_t>(question.planner->tasks_total()) + others;
}

bool Questions::Over(const Question& question) const {
  return question.open.empty() && std::all_of(question.tasks.begin(), question.tasks.end(),
                                              [](const auto& entry) { return entry.second.done; });
}

void Questions::End(uint64_t number, const absl::Status& status) {
  const auto it = questions_.find(number);
  QuestionNews news;
  news.kind = QuestionNews::Kind::kEnded;
  news.status = status;
  Count(it->second, news);
  const Tell tell = std::move(it->second.tell);
  questions_.erase(it);
  tell(std::move(news));
}

void Questions::Look(absl::Duration now) {
  std::vector<std::pair<uint64_t, absl::Status>> ended;
  for (auto& [number, question] : questions_) {
    if (question.until < now) {
      ended.emplace_back(number, absl::DeadlineExceededError(absl::StrCat(
                                     "not answered within ", absl::FormatDuration(kPatience),
                                     ": are there workers (dermis cluster status)? Ask again")));
      continue;
    }
    const Study* study = Find(question.study);
    if (study == nullptr || study->run == nullptr) {
      ended.emplace_back(number,
                         absl::FailedPreconditionError(absl::StrCat(
                             "study ", question.study, " is gone or begins anew: ask again")));
      continue;
    }
  }
  for (const auto& [number, status] : ended) End(number, status);
}

size_t Questions::Ready(const std::string& numerics_class, absl::Duration now) const {
  size_t ready = 0;
  for (const auto& [number, question] : questions_) {
    if (question.numerics_class != numerics_class) continue;
    ready += static_cast<size_t>(std::count_if(question.queue.begin(), question.queue.end(),
                                               [&, &question = question](const Digest& task) {
                                                 return question.tasks.at(task).not_before <= now;
                                               }));
  }
  return ready;
}

bool Questions::MayMeasure(const Question& question, const Taker& taker) const {
  const auto known = measured_.find(question.space);
  return known == measured_.end() || known->second == taker.name ||
         std::find(taker.free->begin(), taker.free->end(), known->second) == taker.free->end();
}

std::optional<Questions::Bundle> Questions::Take(
    const Taker& taker, absl::Duration now, uint64_t assignment,
    const std::function<size_t(v1::TaskSpec::KindCase)>& most) {
  for (auto& [number, question] : questions_) {
    if (question.numerics_class != taker.numerics_class) continue;
    const auto may = [&, &question = question](const Digest& digest) {
      const Task& task = question.tasks.at(digest);
      return task.not_before <= now && (task.avoid != taker.name || !taker.others);
    };
    // The first that is no familiarity says of which kind.
    const auto first = std::find_if(question.queue.begin(), question.queue.end(),
                                    [&](const Digest& d) { return !d.none() && may(d); });
    Bundle out;
    if (first != question.queue.end()) {
      out.kind = question.tasks.at(*first).spec.kind_case();
      std::vector<Digest> alike;
      for (const Digest& digest : question.queue) {
        if (!digest.none() && question.tasks.at(digest).spec.kind_case() == out.kind && may(digest)) {
          alike.push_back(digest);
        }
      }
      const size_t part = (alike.size() + taker.free->size() - 1) / taker.free->size();
      alike.resize(std::min(most(out.kind), part));
      out.tasks = std::move(alike);
    } else if (std::find(question.queue.begin(), question.queue.end(), Digest()) !=
                   question.queue.end() &&
               may(Digest()) && MayMeasure(question, taker)) {
      out.tasks.emplace_back();
    }
    if (out.tasks.empty()) continue;
    for (const Digest& digest : out.tasks) {
      question.tasks.at(digest).assignment = assignment;
      std::erase(question.queue, digest);
    }
    out.question = number;
    out.study = question.study;
    v1::Given& given = *out.bundle.mutable_given();
    given.set_pixels(*question.pixels);
    std::set<Digest> needed;
    for (const Digest& digest : out.tasks) {
      if (digest.none()) {
        *given.mutable_familiarity() = *question.familiarity;
        continue;
      }
      const v1::TaskSpec& spec = question.tasks.at(digest).spec;
      *out.bundle.add_tasks() = spec;
      for (const v1::TaskSpec& need : NeedsOf(spec)) {
        const absl::StatusOr<Digest> of = TaskDigest(need);
        if (!of.ok() || !needed.insert(*of).second) continue;
        const auto known = question.tasks.find(*of);
        if (known == question.tasks.end()) continue;
        v1::GivenResult& result = *given.add_results();
        result.set_task(of->bytes());
        result.set_payload(known->second.payload);
      }
    }
    return out;
  }
  return std::nullopt;
}

void Questions::Ended(uint64_t number, uint64_t assignment, const std::string& worker,
                      const v1::AttemptEnded& ended, absl::Duration now) {
  const auto it = questions_.find(number);
  if (it == questions_.end()) return;
  Question& question = it->second;
  for (const v1::GivenResult& result : ended.results()) {
    if (const absl::Status status = Note(question, result); !status.ok()) {
      return End(number, absl::Status(status.code(), absl::StrCat("worker ", worker, ": ",
                                                                  status.message())));
    }
    if (!result.task().empty()) continue;
    if (measured_.size() >= kMostMeasured) measured_.clear();
    measured_[question.space] = worker;
  }
  if (ended.outcome() == v1::OUTCOME_FAILED) {
    return End(number, absl::InternalError(absl::StrCat("a task failed: ", ended.cause())));
  }
  if (Over(question)) return End(number, absl::OkStatus());
  GiveBack(number, assignment, worker, ended.outcome() == v1::OUTCOME_UNAVAILABLE, now);
}

void Questions::GiveBack(uint64_t number, uint64_t assignment, const std::string& worker,
                         bool could_not, absl::Duration now) {
  const auto it = questions_.find(number);
  if (it == questions_.end() || assignment == 0) return;
  Question& question = it->second;
  for (auto& [digest, task] : question.tasks) {
    if (task.assignment != assignment || task.done) continue;
    task.assignment = 0;
    question.queue.push_front(digest);
    if (!could_not) continue;
    task.avoid = worker;
    if (++task.tries >= kTries) {
      return End(number,
                 absl::UnavailableError(absl::StrCat(
                     NameOf(task.spec), " was tried ", task.tries, " times, last by worker ", worker,
                     ", which was lost or could not: dermis cluster status and the workers' logs "
                     "say why")));
    }
    task.not_before = now + (task.tries > 1 ? BackOff(task.tries) : absl::ZeroDuration());
  }
}

absl::Status Questions::CheckFamiliarity(const Question& question,
                                         const v1::Familiarity& familiarity) {
  const auto sound = [](double distance) { return std::isfinite(distance) && distance >= 0; };
  bool good = sound(familiarity.distance()) && !familiarity.nearest().empty() &&
              familiarity.nearest_size() <= static_cast<int>(kNearest) &&
              (!familiarity.has_threshold() || sound(familiarity.threshold()));
  for (const v1::NearImage& near : familiarity.nearest()) {
    good = good && near.image() < question.image && sound(near.distance());
  }
  return good ? absl::OkStatus()
              : absl::InternalError("a familiarity that says nothing of these training images");
}

absl::Status Questions::Note(Question& question, const v1::GivenResult& result) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(result.task()));
  const auto it = question.tasks.find(digest);
  if (it == question.tasks.end() || it->second.done) return absl::OkStatus();
  Task& task = it->second;
  QuestionNews news;
  v1::Payload payload;
  if (digest.none()) {
    if (!news.familiarity.ParseFromString(result.payload())) {
      return absl::InternalError("a familiarity that does not parse");
    }
    RETURN_IF_ERROR(CheckFamiliarity(question, news.familiarity));
    news.kind = QuestionNews::Kind::kFamiliarity;
  } else if (result.payload().size() > kMostPayload || !payload.ParseFromString(result.payload())) {
    return absl::InternalError(absl::StrCat("the payload of ", Describe(task.spec), " has ",
                                            result.payload().size(), " bytes, or does not parse"));
  }
  if (!digest.none()) RETURN_IF_ERROR(CheckPayload(task.spec, payload));
  if (digest == question.evaluate && (payload.evaluate().classes() != question.classes ||
                                      payload.evaluate().images(0) != question.image)) {
    return absl::InternalError("an evaluation of another image, or of other classes");
  }
  task.done = true;
  task.assignment = 0;
  ++question.done;
  std::erase(question.queue, digest);
  if (task.spec.has_superpixels() || task.spec.has_perturb() || task.spec.has_fit() ||
      task.spec.has_activations()) {
    task.payload = result.payload();
  }
  if (digest.none()) {
    // Told below.
  } else if (digest == question.evaluate) {
    news.kind = QuestionNews::Kind::kLogits;
    news.logits = {payload.evaluate().logits().begin(), payload.evaluate().logits().end()};
  } else {
    RETURN_IF_ERROR(
        AddAll(question, question.planner->OnDone(
                             digest, [&]() -> absl::StatusOr<v1::Payload> { return payload; })));
    return TellMethods(question);
  }
  Count(question, news);
  question.tell(std::move(news));
  return absl::OkStatus();
}

absl::Status Questions::TellMethods(Question& question) {
  for (auto method = question.open.begin(); method != question.open.end();) {
    ASSIGN_OR_RETURN(const ExplanationPlanner::MethodTask last,
                     question.planner->TaskOf(0, *method));
    if (!question.planner->IsDone(last.digest)) {
      ++method;
      continue;
    }
    QuestionNews news;
    news.kind = QuestionNews::Kind::kMethod;
    *news.method.mutable_method() = *method;
    *news.method.mutable_task() = last.task;
    news.method.mutable_payload()->ParseFromString(question.tasks.at(last.digest).payload);
    if (!last.superpixels.none()) {
      v1::Payload superpixels;
      superpixels.ParseFromString(question.tasks.at(last.superpixels).payload);
      *news.method.mutable_superpixels() = std::move(*superpixels.mutable_superpixels());
    }
    Count(question, news);
    method = question.open.erase(method);
    question.tell(std::move(news));
  }
  return absl::OkStatus();
}

}  // namespace dermis
