#include "coordinator/questions.h"

#include <algorithm>
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
  std::vector<std::string> notes;
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

  const v1::Recipe& recipe = run.final_recipe();
  const v1::ModelRef& model = run.evaluation()->model();
  const auto index = static_cast<uint32_t>(manifest.images_size());

  Question question;
  question.study = id;
  question.numerics_class = record->second.numerics_class;
  question.pixels = std::move(pixels);
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
  if (!model.has_foreign() && !run.split().training.empty()) {
    v1::FamiliarityQuestion& familiarity = question.familiarity.emplace();
    *familiarity.mutable_images() = recipe.images();
    *familiarity.mutable_model() = model;
    familiarity.set_neighbours(kNeighbours);
    familiarity.set_nearest(kNearest);
    question.tasks[Digest()];
    question.queue.emplace_back();
    news.familiarity_follows = true;
  } else {
    notes.push_back(
        "nothing tells whether this image is like the training images: the model shows no "
        "features, "
        "or no training images are known");
  }
  question.planner = std::make_unique<ExplanationPlanner>(
      explanation, recipe, model, run.spec().seed(), std::vector<ChosenImage>{{index, "asked for"}},
      question.numerics_class);
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

bool Questions::Waiting(const std::string& numerics_class, absl::Duration now) const {
  return std::any_of(questions_.begin(), questions_.end(), [&](const auto& entry) {
    const Question& question = entry.second;
    return question.numerics_class == numerics_class &&
           std::any_of(question.queue.begin(), question.queue.end(), [&](const Digest& task) {
             return question.tasks.at(task).not_before <= now;
           });
  });
}

std::optional<Questions::Bundle> Questions::Take(
    const std::string& numerics_class, size_t workers, absl::Duration now, uint64_t assignment,
    const std::function<size_t(v1::TaskSpec::KindCase)>& most) {
  for (auto& [number, question] : questions_) {
    if (question.numerics_class != numerics_class || question.queue.empty()) continue;
    Bundle out;
    size_t limit = 0;
    std::deque<Digest> rest;
    for (const Digest& digest : question.queue) {
      Task& task = question.tasks.at(digest);
      const v1::TaskSpec::KindCase kind = task.spec.kind_case();
      if (task.not_before > now ||
          (!out.tasks.empty() && (kind != out.kind || out.tasks.size() >= limit))) {
        rest.push_back(digest);
        continue;
      }
      if (out.tasks.empty()) {
        out.kind = kind;
        const auto alike = static_cast<size_t>(
            std::count_if(question.queue.begin(), question.queue.end(), [&](const Digest& other) {
              return question.tasks.at(other).spec.kind_case() == kind;
            }));
        limit = std::min(most(kind), (alike + workers - 1) / workers);
      }
      out.tasks.push_back(digest);
      task.waiting = false;
      task.assignment = assignment;
    }
    question.queue = std::move(rest);
    if (out.tasks.empty()) continue;
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

void Questions::Ended(uint64_t number, uint64_t assignment, const v1::AttemptEnded& ended,
                      absl::Duration now) {
  const auto it = questions_.find(number);
  if (it == questions_.end()) return;
  Question& question = it->second;
  for (const v1::GivenResult& result : ended.results()) {
    if (const absl::Status status = Note(question, result); !status.ok())
      return End(number, status);
  }
  if (ended.outcome() == v1::OUTCOME_FAILED) {
    return End(number, absl::InternalError(absl::StrCat("a task failed: ", ended.cause())));
  }
  if (Over(question)) return End(number, absl::OkStatus());
  GiveBack(number, assignment, now);
}

void Questions::GiveBack(uint64_t number, uint64_t assignment, absl::Duration now) {
  const auto it = questions_.find(number);
  if (it == questions_.end() || assignment == 0) return;
  Question& question = it->second;
  for (auto& [digest, task] : question.tasks) {
    if (task.assignment != assignment || task.done) continue;
    task.assignment = 0;
    task.waiting = true;
    question.queue.push_front(digest);
    if (++task.tries >= kTries) {
      return End(number,
                 absl::UnavailableError(absl::StrCat(
                     NameOf(task.spec), " was tried ", task.tries,
                     " times, and its worker was lost or could not: dermis cluster status and "
                     "the workers' logs say why")));
    }
    task.not_before = now + (task.tries > 1 ? BackOff(task.tries) : absl::ZeroDuration());
  }
}

absl::Status Questions::Note(Question& question, const v1::GivenResult& result) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(result.task()));
  const auto it = question.tasks.find(digest);
  if (it == question.tasks.end() || it->second.done) return absl::OkStatus();
  Task& task = it->second;
  QuestionNews news;
  v1::Payload payload;
  if (digest.none()) {
    if (!news.familiarity.ParseFromString(result.payload()) || news.familiarity.nearest().empty() ||
        !(news.familiarity.distance() >= 0)) {
      return absl::InternalError("a worker's familiarity does not parse, or is none");
    }
    news.kind = QuestionNews::Kind::kFamiliarity;
  } else if (result.payload().size() > kMostPayload || !payload.ParseFromString(result.payload())) {
    return absl::InternalError(absl::StrCat("the payload of ", Describe(task.spec), " has ",
                                            result.payload().size(), " bytes, or does not parse"));
  }
  if (!digest.none()) RETURN_IF_ERROR(CheckPayload(task.spec, payload));
  task.done = true;
  task.assignment = 0;
  task.waiting = false;
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
