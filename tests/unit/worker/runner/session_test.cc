#include "worker/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "tests/unit/worker/runner/fakes.h"

namespace dermis {
namespace {

// A coordinator whose behaviour on the n-th stream is the test's.
class ScriptedCluster : public v1::Cluster::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::Directive, v1::WorkerMessage>;
  std::function<grpc::Status(int n, Stream*)> script;
  std::atomic<int> streams{0};
  grpc::Status Attend(grpc::ServerContext*, Stream* stream) override { return script(streams++, stream); }
};

v1::Directive Welcome(const std::vector<uint64_t>& adopted) {
  v1::Directive directive;
  directive.mutable_welcome()->set_incarnation(1);
  for (const uint64_t a : adopted) directive.mutable_welcome()->add_adopted(a);
  return directive;
}

v1::Directive AssignNoop(uint64_t assignment) {
  v1::Directive directive;
  directive.mutable_assign()->set_assignment(assignment);
  *directive.mutable_assign()->mutable_bundle()->add_tasks() = Noop(assignment);
  return directive;
}

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&cluster);
    server = builder.BuildAndStart();
    channel = grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
    options.hello.set_worker("w");
    options.beat = absl::Milliseconds(10);
    options.first_backoff = options.last_backoff = absl::Milliseconds(5);
  }
  void TearDown() override { server->Shutdown(std::chrono::system_clock::now()); }

  ScriptedCluster cluster;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  Session::Options options;
  std::vector<std::shared_ptr<RunningWork>> started;
  Attempts attempts{[this](std::shared_ptr<RunningWork> work) { started.push_back(std::move(work)); }};
};

TEST_F(SessionTest, Refusal_EndsTheWorker_WithTheCoordinatorsWords) {
  cluster.script = [](int, ScriptedCluster::Stream* stream) {
    v1::WorkerMessage message;
    stream->Read(&message);
    v1::Directive refusal;
    refusal.mutable_welcome()->set_refusal("install version 2");
    stream->Write(refusal);
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  };
  Session session(v1::Cluster::NewStub(channel), &attempts, options);
  const absl::Status status = session.Run();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(status.message(), "install version 2");
}

TEST_F(SessionTest, RunningAttempts_AreRegisteredAgain_AfterTheStreamBroke) {
  Session session(v1::Cluster::NewStub(channel), &attempts, options);
  std::vector<uint64_t> again;
  cluster.script = [&](int n, ScriptedCluster::Stream* stream) {
    v1::WorkerMessage message;
    stream->Read(&message);
    if (n == 0) {
      EXPECT_EQ(message.register_().running_size(), 0);
      stream->Write(Welcome({}));
      stream->Write(AssignNoop(41));
      stream->Write(AssignNoop(42));
      // Breaks once a beat shows that both run.
      while (stream->Read(&message) && message.beat().running_size() < 2) {
      }
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "dies");
    }
    for (const auto& running : message.register_().running()) again.push_back(running.assignment());
    stream->Write(Welcome({42}));
    while (stream->Read(&message) && message.beat().running_size() != 1) {
    }
    session.Stop();
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  };
  EXPECT_TRUE(session.Run().ok());
  EXPECT_THAT(again, ::testing::ElementsAre(41, 42));
  ASSERT_EQ(started.size(), 2u);
  EXPECT_TRUE(started[0]->cancelled);
  EXPECT_FALSE(started[1]->cancelled);
}

TEST_F(SessionTest, Ends_AreToldOnce_AndBeatsKeepComing) {
  Session session(v1::Cluster::NewStub(channel), &attempts, options);
  int ends = 0, beats_after = 0;
  cluster.script = [&](int, ScriptedCluster::Stream* stream) {
    v1::WorkerMessage message;
    stream->Read(&message);
    stream->Write(Welcome({}));
    stream->Write(AssignNoop(9));
    while (stream->Read(&message) && message.beat().running_size() < 1) {
    }
    v1::AttemptEnded ended;
    ended.set_outcome(v1::OUTCOME_DONE);
    attempts.Ended(*started[0], ended);
    while (beats_after < 5 && stream->Read(&message)) {
      if (message.has_ended()) {
        EXPECT_EQ(message.ended().assignment(), 9u);
        ++ends;
      } else if (ends > 0) {
        EXPECT_EQ(message.beat().running_size(), 0);
        ++beats_after;
      }
    }
    session.Stop();
    return grpc::Status::OK;
  };
  EXPECT_TRUE(session.Run().ok());
  EXPECT_EQ(ends, 1);
  EXPECT_EQ(beats_after, 5);
}

TEST_F(SessionTest, WhoIsPutOut_EndsWithTheCoordinatorsWords_AtTheDoorAndFromWithin) {
  for (const bool within : {false, true}) {
    cluster.streams = 0;
    cluster.script = [&](int, ScriptedCluster::Stream* stream) {
      v1::WorkerMessage message;
      stream->Read(&message);
      if (within) {
        stream->Write(Welcome({}));
        stream->Read(&message);
      }
      return grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "the certificate was revoked");
    };
    Session session(v1::Cluster::NewStub(channel), &attempts, options);
    const absl::Status status = session.Run();
    EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("revoked"));
    EXPECT_EQ(cluster.streams, 1);
  }
}

TEST_F(SessionTest, MoveTo_IsWelcomedOnTheNewStream_BeforeItLeavesTheOldOne) {
  Session session(v1::Cluster::NewStub(channel), &attempts, options);
  std::atomic<bool> welcomed_again{false}, old_left{false}, left_too_early{false};
  std::atomic<int> beats_on_new{0};
  std::thread mover;
  cluster.script = [&](int n, ScriptedCluster::Stream* stream) {
    v1::WorkerMessage message;
    stream->Read(&message);
    if (n == 0) {
      stream->Write(Welcome({}));
      stream->Write(AssignNoop(7));
      while (stream->Read(&message) && message.beat().running_size() < 1) {
      }
      mover = std::thread([&] { session.MoveTo(v1::Cluster::NewStub(channel)); });
      while (stream->Read(&message)) {
      }
      left_too_early = !welcomed_again;
      old_left = true;
      return grpc::Status::OK;
    }
    EXPECT_EQ(message.register_().running_size(), 1);
    welcomed_again = true;
    stream->Write(Welcome({7}));
    while (stream->Read(&message)) {
      if (message.beat().running_size() == 1 && ++beats_on_new == 3) session.Stop();
    }
    return grpc::Status::OK;
  };
  EXPECT_TRUE(session.Run().ok());
  mover.join();
  EXPECT_EQ(cluster.streams, 2);
  EXPECT_FALSE(left_too_early);
  EXPECT_GE(beats_on_new, 3);
  ASSERT_EQ(started.size(), 1u);
  EXPECT_FALSE(started[0]->cancelled);
}

TEST_F(SessionTest, MoveTo_WhatRefusesIt_LeavesAWorkerThatTriesAgain) {
  Session session(v1::Cluster::NewStub(channel), &attempts, options);
  std::thread mover;
  cluster.script = [&](int n, ScriptedCluster::Stream* stream) {
    v1::WorkerMessage message;
    stream->Read(&message);
    if (n == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now");
    stream->Write(Welcome({}));
    if (n == 0) mover = std::thread([&] { session.MoveTo(v1::Cluster::NewStub(channel)); });
    if (n == 2) session.Stop();
    while (stream->Read(&message)) {
    }
    return grpc::Status::OK;
  };
  EXPECT_TRUE(session.Run().ok());
  mover.join();
  EXPECT_EQ(cluster.streams, 3);
}

}  // namespace
}  // namespace dermis
