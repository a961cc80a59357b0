// "Explain this image": first in turn, nothing left behind.
#include "coordinator/questions.h"

#include <gmock/gmock.h>

#include "tests/unit/coordinator/core_fixture.h"

namespace dermis {
namespace {

using ::testing::HasSubstr;
using Kind = QuestionNews::Kind;

class QuestionsTest : public CoreTest {
 protected:
  static std::shared_ptr<const std::string> Image(char value = 7) {
    return std::make_shared<const std::string>(32 * 32 * 3, value);
  }
  absl::StatusOr<uint64_t> Ask(const std::string& study,
                               std::shared_ptr<const std::string> image = Image()) {
    return core_->Ask(study, std::move(image),
                      [this](QuestionNews news) { heard_.push_back(std::move(news)); });
  }
  size_t Heard(Kind kind) const {
    return static_cast<size_t>(std::count_if(heard_.begin(), heard_.end(),
                                             [&](const auto& news) { return news.kind == kind; }));
  }
  // The worker answers a bundle of a question.
  void Answer(ConnectionId connection, const v1::Assign& assign,
              v1::Outcome outcome = v1::OUTCOME_DONE) {
    v1::AttemptEnded ended;
    ended.set_assignment(assign.assignment());
    ended.set_outcome(outcome);
    for (const v1::TaskSpec& task : assign.bundle().tasks()) {
      if (outcome != v1::OUTCOME_DONE) break;
      v1::GivenResult& result = *ended.add_results();
      result.set_task(TaskDigest(task)->bytes());
      Split asked = split_;
      asked.test = {60};  // The image after the set's last.
      FakePayload(task, asked).SerializeToString(result.mutable_payload());
    }
    if (outcome == v1::OUTCOME_DONE && assign.bundle().given().has_familiarity()) {
      v1::Familiarity familiarity;
      familiarity.add_nearest()->set_image(split_.training[0]);
      if (unknown_images_) familiarity.mutable_nearest(0)->set_image(60);
      familiarity.SerializeToString(ended.add_results()->mutable_payload());
    }
    core_->AttemptEnded(connection, ended);
    EXPECT_TRUE(core_->Flush().ok());
  }
  // Questions are answered and everything else is done, until the question is over.
  void RunQuestion() {
    for (int i = 0; i < 500 && Heard(Kind::kEnded) == 0; ++i) {
      Work();
      for (const auto& [connection, assign] : std::exchange(given_, {})) Answer(connection, assign);
    }
  }
  void RunStudy(const std::string& name = "a") {
    ASSERT_TRUE(Submit(*FakeSpec(name, 2, 0, kFakeExplanation)).ok());
    ASSERT_EQ(RunToEnd(name).phase(), v1::StudyStatus::DONE);
  }

  std::vector<QuestionNews> heard_;
  bool unknown_images_ = false;  // Workers name nearest images that there are none.
};

TEST_F(QuestionsTest, Question_IsAnsweredInFull_AndLeavesNothing) {
  Join("w1");
  Join("w2");
  RunStudy();
  const size_t rows = disk_.rows.size(), blobs = blobs_.blobs.size();
  const std::string before = core_->Dump();
  ASSERT_TRUE(Ask("a").ok());
  RunQuestion();
  ASSERT_FALSE(heard_.empty());
  EXPECT_EQ(heard_.front().kind, Kind::kBegun);
  EXPECT_TRUE(heard_.front().familiarity_follows);
  EXPECT_EQ(heard_.front().validation_images, split_.validation);
  EXPECT_EQ(heard_.front().start.methods_size(), 3);
  EXPECT_EQ(Heard(Kind::kLogits), 1u);
  EXPECT_EQ(Heard(Kind::kFamiliarity), 1u);
  EXPECT_EQ(Heard(Kind::kMethod), 3u);
  EXPECT_EQ(heard_.back().kind, Kind::kEnded);
  EXPECT_TRUE(heard_.back().status.ok()) << heard_.back().status;
  EXPECT_EQ(heard_.back().tasks_done, heard_.back().tasks_total);
  EXPECT_EQ(disk_.rows.size(), rows);
  EXPECT_EQ(blobs_.blobs.size(), blobs);
  EXPECT_EQ(core_->Dump(), before);
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
}

TEST_F(QuestionsTest, Method_HasTheTaskThatAStudyWouldHave) {
  Join("w1");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  RunQuestion();
  const auto results = core_->Results("a");
  ASSERT_TRUE(results.ok());
  const v1::ExplainedImage& explained = results->explained(0);
  for (const QuestionNews& news : heard_) {
    if (news.kind != Kind::kMethod) continue;
    bool found = false;
    for (const v1::MethodResult& method : explained.results()) {
      if (method.method().kind_case() != news.method.method().kind_case()) continue;
      found = true;
      v1::TaskSpec task = news.method.task();  // But for which image it is.
      if (task.has_fit()) {
        EXPECT_EQ(task.fit().perturbation().image(), 60u);
        task.mutable_fit()->mutable_perturbation()->set_image(explained.image());
      } else {
        EXPECT_EQ(task.activations().image(), 60u);
        EXPECT_TRUE(task.activations().cams_only());
        task.mutable_activations()->clear_cams_only();
        task.mutable_activations()->set_image(explained.image());
      }
      EXPECT_EQ(*TaskDigest(task), *TaskDigest(method.task())) << task.DebugString();
    }
    EXPECT_TRUE(found);
  }
}

TEST_F(QuestionsTest, BusyWorker_LeavesItsBundle_AndAnswersFirst) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  RunQuestion();
  heard_.clear();
  ASSERT_TRUE(Submit(*FakeSpec("b", 3, 0, kFakeExplanation)).ok());
  const auto perturbs = [&] {
    const v1::Assign* assign = LastAssign(w1);
    return assign != nullptr && assign->bundle().tasks_size() > 0 &&
           assign->bundle().tasks(0).has_perturb();
  };
  for (int i = 0; i < 500 && !perturbs(); ++i) {
    Do();
    Pass(absl::Milliseconds(200));
  }
  ASSERT_TRUE(perturbs());
  const v1::Assign busy = *LastAssign(w1);
  ASSERT_TRUE(Ask("a", Image(3)).ok());
  Pass(absl::Milliseconds(10));
  EXPECT_TRUE(Was(w1, v1::Directive::kYield));
  End(w1, busy.assignment(), v1::OUTCOME_YIELDED);
  Pass(absl::Milliseconds(10));
  ASSERT_NE(LastAssign(w1)->assignment(), busy.assignment());
  ASSERT_TRUE(LastAssign(w1)->bundle().has_given());
  EXPECT_TRUE(LastAssign(w1)->bundle().tasks(0).has_evaluate());  // The prediction comes first.
  RunQuestion();
  EXPECT_TRUE(heard_.back().status.ok()) << heard_.back().status;
  EXPECT_EQ(RunToEnd("b").phase(), v1::StudyStatus::DONE);  // What it left is done after.
}

TEST_F(QuestionsTest, OnlyWorkerThatTrains_StoresItsState_AndAnswers) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  ASSERT_TRUE(Submit(*FakeSpec("b", 40, 0, "seed: 5\n")).ok());
  Pass(absl::Milliseconds(200));
  ASSERT_TRUE(LastAssign(w1)->has_gang());
  ASSERT_TRUE(Ask("a").ok());
  Pass(absl::Milliseconds(10));
  EXPECT_TRUE(Was(w1, v1::Directive::kYield));
  End(w1, LastAssign(w1)->assignment(), v1::OUTCOME_YIELDED);
  Pass(absl::Milliseconds(10));
  EXPECT_TRUE(LastAssign(w1)->bundle().has_given());
}

TEST_F(QuestionsTest, WhoGoesAway_IsNotWorkedForAnyMore) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  const auto question = Ask("a");
  ASSERT_TRUE(question.ok());
  Pass(absl::Milliseconds(10));
  ASSERT_TRUE(LastAssign(w1)->bundle().has_given());
  const uint64_t assignment = LastAssign(w1)->assignment();
  core_->LeaveQuestion(*question);
  Pass(absl::Milliseconds(10));
  EXPECT_TRUE(Was(w1, v1::Directive::kCancel));
  const size_t heard = heard_.size();
  End(w1, assignment, v1::OUTCOME_YIELDED);
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Milliseconds(10));
    EXPECT_FALSE(LastAssign(w1)->bundle().has_given() &&
                 LastAssign(w1)->assignment() != assignment);
  }
  EXPECT_EQ(heard_.size(), heard);
}

TEST_F(QuestionsTest, LostWorkers_CostAQuestionTime_AndAreNoLosses_UntilItGivesUp) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  const size_t rows = disk_.rows.size();
  ASSERT_TRUE(Ask("a").ok());
  Pass(absl::Milliseconds(10));
  ASSERT_TRUE(LastAssign(w1)->bundle().has_given());
  core_->WorkerDisconnected(w1, "killed");
  const ConnectionId w2 = Join("w2");
  Pass(absl::Milliseconds(10));
  ASSERT_TRUE(LastAssign(w2)->bundle().has_given());
  EXPECT_EQ(disk_.rows.size(), rows);
  for (int i = 0; i < 50 && Heard(Kind::kEnded) == 0; ++i) {
    const v1::Assign* assign = LastAssign(w2);
    if (assign->bundle().has_given()) Answer(w2, *assign, v1::OUTCOME_UNAVAILABLE);
    core_->WorkerBeat(w2, v1::Beat());
    Pass(absl::Seconds(2));
  }
  ASSERT_EQ(heard_.back().kind, Kind::kEnded);
  EXPECT_TRUE(absl::IsUnavailable(heard_.back().status)) << heard_.back().status;
  EXPECT_EQ(disk_.rows.size(), rows);
}

TEST_F(QuestionsTest, FailedTask_EndsTheQuestion_AndNoStudy) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  Pass(absl::Milliseconds(10));
  End(w1, LastAssign(w1)->assignment(), v1::OUTCOME_FAILED, "no such layer");
  ASSERT_EQ(heard_.back().kind, Kind::kEnded);
  EXPECT_THAT(heard_.back().status.message(), HasSubstr("no such layer"));
  EXPECT_EQ(core_->Status("a")->phase(), v1::StudyStatus::DONE);
  EXPECT_TRUE(core_->Status("a")->problems().empty());
}

TEST_F(QuestionsTest, Familiarity_ComesLast_ToTheWorkerThatHasTheFeatures) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  size_t methods_before = 0;
  for (int i = 0; i < 500 && Heard(Kind::kEnded) == 0; ++i) {
    Work();
    for (const auto& [connection, assign] : std::exchange(given_, {})) {
      if (assign.bundle().given().has_familiarity()) methods_before = Heard(Kind::kMethod);
      Answer(connection, assign);
    }
  }
  EXPECT_EQ(methods_before, 3u);
  // w2 is asked first by its place in the order of names, but for this.
  Join("w2");
  heard_.clear();
  ASSERT_TRUE(Ask("a", Image(9)).ok());
  int measured = 0;
  for (int i = 0; i < 500 && Heard(Kind::kEnded) == 0; ++i) {
    Work();
    for (const auto& [connection, assign] : std::exchange(given_, {})) {
      if (assign.bundle().given().has_familiarity()) {
        EXPECT_EQ(connection, w1);
        ++measured;
      }
      Answer(connection, assign);
    }
  }
  EXPECT_EQ(measured, 1);
  EXPECT_TRUE(heard_.back().status.ok()) << heard_.back().status;
}

TEST_F(QuestionsTest, WorkerThatCouldNot_IsNotAskedAgain_WhileOthersAreThere) {
  const ConnectionId w1 = Join("w1"), w2 = Join("w2");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  for (int i = 0; i < 500 && Heard(Kind::kEnded) == 0; ++i) {
    Work();
    for (const auto& [connection, assign] : std::exchange(given_, {})) {
      Answer(connection, assign,
             connection == w1 ? v1::OUTCOME_UNAVAILABLE : v1::OUTCOME_DONE);
    }
  }
  ASSERT_EQ(Heard(Kind::kEnded), 1u);
  EXPECT_TRUE(heard_.back().status.ok()) << heard_.back().status;
  EXPECT_NE(w1, w2);
}

TEST_F(QuestionsTest, NoMoreWorkersLeaveTheirWork_ThanThereAreTasksFor) {
  std::vector<ConnectionId> all;
  for (int w = 0; w < 20; ++w) all.push_back(Join(absl::StrCat("w", w)));
  RunStudy();
  ASSERT_TRUE(Submit(*FakeSpec("b", 3, 0, "explanation: {methods: [{lime: {samples: 100000}}]}\n")).ok());
  const auto busy = [&] {
    return std::all_of(all.begin(), all.end(), [&](ConnectionId worker) {
      const v1::Assign* assign = LastAssign(worker);
      return assign != nullptr && assign->bundle().tasks_size() > 0 &&
             assign->bundle().tasks(0).has_perturb();
    });
  };
  for (int i = 0; i < 500 && !busy(); ++i) {
    Do();
    Pass(absl::Milliseconds(200));
  }
  ASSERT_TRUE(busy());
  ASSERT_TRUE(Ask("a", Image(3)).ok());
  Pass(absl::Milliseconds(10));
  const auto told = std::count_if(all.begin(), all.end(), [&](ConnectionId worker) {
    return Was(worker, v1::Directive::kYield);
  });
  // Evaluation, superpixels, Grad-CAM, familiarity; the masks wait for the superpixels.
  EXPECT_GE(told, 3);
  EXPECT_LE(told, 5);
}

TEST_F(QuestionsTest, WhatIsAQuestions_IsNotStored_HoweverItComes) {
  const ConnectionId w1 = Join("w1");
  RunStudy();
  ASSERT_TRUE(Ask("a").ok());
  Pass(absl::Milliseconds(10));
  const v1::Assign* assign = LastAssign(w1);
  ASSERT_TRUE(assign->bundle().has_given());
  const size_t rows = disk_.rows.size();
  const v1::TaskSpec task = assign->bundle().tasks(0);
  const v1::CompletionReply reply = Complete(task, FakePayload(task, split_), "w1");
  EXPECT_EQ(reply.verdict(), v1::CompletionReply::REFUSED);
  EXPECT_THAT(reply.cause(), HasSubstr("question"));
  EXPECT_EQ(disk_.rows.size(), rows);
}

TEST_F(QuestionsTest, FamiliarityOfNoImage_EndsTheQuestion_AndNamesTheWorker) {
  Join("w1");
  RunStudy();
  unknown_images_ = true;
  ASSERT_TRUE(Ask("a").ok());
  RunQuestion();
  ASSERT_EQ(heard_.back().kind, Kind::kEnded);
  EXPECT_THAT(heard_.back().status.message(), HasSubstr("worker w1"));
}

TEST_F(QuestionsTest, Refusals_SayWhatToDo) {
  EXPECT_THAT(Ask("a").status().message(), HasSubstr("no study"));
  ASSERT_TRUE(Submit(*FakeSpec("a", 2, 0, kFakeExplanation)).ok());
  Join("w1");
  Pass(absl::Milliseconds(200));
  const absl::Status training = Ask("a").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(training)) << training;
  EXPECT_THAT(training.message(), HasSubstr("dermis wait"));
  RunToEnd("a");
  const absl::Status size = Ask("a", std::make_shared<const std::string>("short")).status();
  EXPECT_TRUE(absl::IsInvalidArgument(size)) << size;
  EXPECT_THAT(size.message(), HasSubstr("32 x 32"));
  EXPECT_TRUE(heard_.empty());
  core_->WorkerDisconnected(connections_, "gone");
  const absl::Status nobody = Ask("a").status();
  EXPECT_TRUE(absl::IsUnavailable(nobody)) << nobody;
}

TEST_F(QuestionsTest, Empty_IsToldWhatWouldCome_AndNothingIsComputed) {
  Join("w1");
  RunStudy();
  const auto asked = Ask("a", std::make_shared<const std::string>());
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(*asked, 0u);
  ASSERT_EQ(heard_.size(), 2u);
  EXPECT_EQ(heard_[0].start.image_set(), image_set_.bytes());
  EXPECT_TRUE(heard_[1].status.ok());
  const uint64_t computed = computed_;
  Work();
  EXPECT_EQ(computed_, computed);
}

TEST(ExplanationOfQuestionTest, TakesTheStudysMethods_ButNotThoseThatNeedAMask) {
  const auto spec = FakeSpec("a", 1, 0,
                             "explanation:\n"
                             "  output: logit\n"
                             "  methods:\n"
                             "    - lime: {samples: 321, superpixels: {lesion_zones: {}}}\n"
                             "    - shapley: {permutations: 5}\n"
                             "    - deep_shap\n");
  ASSERT_TRUE(spec.ok()) << spec.status();
  std::vector<std::string> notes;
  const auto explanation = ExplanationOfQuestion(*spec, notes);
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  EXPECT_EQ(explanation->output(), v1::OUTPUT_KIND_LOGIT);
  ASSERT_EQ(explanation->methods_size(), 3);
  EXPECT_EQ(explanation->methods(0).lime().samples(), 321u);
  EXPECT_TRUE(explanation->methods(0).lime().superpixels().has_slic());
  EXPECT_EQ(explanation->methods(1).shapley().permutations(), 5u);
  EXPECT_TRUE(explanation->methods(2).has_grad_cam());
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("slic"));
}

}  // namespace
}  // namespace dermis
