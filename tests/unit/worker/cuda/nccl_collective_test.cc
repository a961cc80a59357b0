// The ordered and the fast reduction, and how attempts end, with real data between threads.
#include "worker/cuda/nccl_collective.h"

#include <atomic>
#include <barrier>
#include <cmath>
#include <mutex>
#include <set>
#include <thread>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "tests/unit/worker/cuda/nccl_gang.h"
#include "tests/unit/worker/cuda/shards.h"

namespace dermis {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

NcclCollective::Options Ordered(uint32_t) { return {}; }
NcclCollective::Options Fast(uint32_t) {
  NcclCollective::Options options;
  options.reduction = NcclReduction::kFast;
  return options;
}

std::string Words(const absl::Status& status) { return std::string(status.message()); }

// This rank's part of a reduction of n floats; `out` is what it got.
absl::Status Reduce(Collective& collective, uint64_t n, uint64_t seed, std::vector<float>* out) {
  Vectors shards = MakeShards(collective.first_shard(), collective.shard_count(), n, seed);
  out->assign(n, -1.0f);
  return collective.OrderedReduce(Pointers(shards), n, out->data());
}

// Reduces until that fails.
absl::Status ReduceUntilError(Collective& collective) {
  absl::Status status;
  std::vector<float> out;
  while (status.ok()) status = Reduce(collective, 1000, 1, &out);
  return status;
}

TEST(NcclCollective, OrderedReduce_IsBitwiseEqual_ForAnyWorldSize) {
  // Slices that come out even and uneven, empty ones, and more than a ring of the stand-in holds.
  const std::vector<uint64_t> lengths = {0, 1, 7, 1000, 1024, 50'001, 64 * 1024};
  for (uint32_t v : {4u, 8u}) {
    std::vector<std::vector<float>> want;
    for (uint64_t n : lengths) want.push_back(LocalSum(v, n, n + v));
    for (uint32_t w : {1u, 2u, 3u, 4u}) {
      RunGang(w, v, Ordered, [&](uint32_t rank, MadeCollective& made) {
        ASSERT_TRUE(made.ok()) << made.status();
        for (size_t k = 0; k < lengths.size(); ++k) {
          std::vector<float> out;
          const absl::Status status = Reduce(**made, lengths[k], lengths[k] + v, &out);
          ASSERT_TRUE(status.ok()) << status;
          EXPECT_TRUE(SameBits(out, want[k]))
              << "rank " << rank << " of " << w << ", V " << v << ", n " << lengths[k];
        }
      });
    }
  }
}

TEST(NcclCollective, OrderedReduce_MayWriteOverItsFirstShard) {
  const std::vector<float> want = LocalSum(4, 5001, 3);
  RunGang(2, 4, Ordered, [&](uint32_t, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    Vectors shards = MakeShards((*made)->first_shard(), 2, 5001, 3);
    ASSERT_TRUE((*made)->OrderedReduce(Pointers(shards), 5001, shards[0].data()).ok());
    EXPECT_TRUE(SameBits(shards[0], want));
  });
}

TEST(NcclCollective, FastReduce_IsClose_AndTheSameOnAllRanks_ButNotTheTree) {
  constexpr uint64_t kN = 20'001;
  const std::vector<float> want = LocalSum(8, kN, 5);
  std::vector<std::vector<float>> got(4);
  RunGang(4, 8, Fast, [&](uint32_t rank, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    const absl::Status status = Reduce(**made, kN, 5, &got[rank]);
    ASSERT_TRUE(status.ok()) << status;
  });
  const Vectors shards = MakeShards(0, 8, kN, 5);
  for (uint64_t i = 0; i < kN; ++i) {
    double exact = 0, size = 0;
    for (const auto& shard : shards) {
      exact += shard[i];
      size += std::abs(shard[i]);
    }
    ASSERT_NEAR(got[0][i], exact, 8 * 6e-8 * size) << i;
  }
  for (const auto& one : got) EXPECT_TRUE(SameBits(one, got[0]));
  // The stand-in adds from the last rank to the first: the test of the ordered sum could fail.
  EXPECT_FALSE(SameBits(got[0], want));
}

TEST(NcclCollective, AllGather_GoesByTheControlPath_BetweenReductions) {
  RunGang(3, 4, Ordered, [&](uint32_t rank, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    for (int round = 0; round < 5; ++round) {
      std::vector<float> out;
      ASSERT_TRUE(Reduce(**made, 100, 1, &out).ok());
      const auto all = (*made)->AllGather(absl::StrCat("r", rank));
      ASSERT_TRUE(all.ok()) << all.status();
      EXPECT_EQ(*all, (std::vector<std::string>{"r0", "r1", "r2"}));
    }
  });
}

TEST(NcclCollective, Communicators_AreDestroyed_WhenAllWentWell_AndAborted_WhenNot) {
  auto* destroyed = StandIn<decltype(DermisStandInDestroyed)>("DermisStandInDestroyed");
  auto* aborted = StandIn<decltype(DermisStandInAborted)>("DermisStandInAborted");
  const int destroyed_before = destroyed(), aborted_before = aborted();
  RunGang(2, 4, Ordered, [](uint32_t, MadeCollective& made) {
    std::vector<float> out;
    EXPECT_TRUE(Reduce(**made, 100, 1, &out).ok());
  });
  EXPECT_EQ(destroyed(), destroyed_before + 2);
  EXPECT_EQ(aborted(), aborted_before);
  RunGang(2, 4, Ordered, [](uint32_t rank, MadeCollective& made) {
    if (rank == 1) (*made)->Abort(absl::InternalError("enough"));
    EXPECT_FALSE(ReduceUntilError(**made).ok());
  });
  EXPECT_EQ(destroyed(), destroyed_before + 2);
  EXPECT_EQ(aborted(), aborted_before + 2);
}

TEST(NcclCollective, Abort_WhileAPeerHangs_EndsAllWithinABound_AndNamesTheRank) {
  InjectFault(2, 7, StandInFault::kHang);
  const absl::Time start = absl::Now();
  RunGang(3, 4, Ordered, [&](uint32_t rank, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    std::thread coordinator;
    if (rank == 2) {
      coordinator = std::thread([&] {
        for (int i = 0; (*made)->WaitsFor().empty() && i < 1000; ++i) absl::SleepFor(absl::Milliseconds(10));
        absl::SleepFor(absl::Milliseconds(300));
        // It is in the exchange and says so.
        EXPECT_THAT((*made)->WaitsFor(), ::testing::ElementsAre(0, 1));
        (*made)->Abort(absl::InternalError("made no progress for 20 s"));
      });
    }
    const absl::Status status = ReduceUntilError(**made);
    if (rank == 2) {
      coordinator.join();
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
      EXPECT_THAT(Words(status), HasSubstr("made no progress for 20 s"));
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(Words(status), HasSubstr("rank 2 (worker worker-2): made no progress for 20 s"));
    }
    EXPECT_EQ((*made)->AllGather("x").status(), status);  // Dead for good.
  });
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(300));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(NcclCollective, Exchange_ThatNobodyEnds_EndsByItsPatience) {
  InjectFault(0, 1, StandInFault::kHang);
  auto options = [](uint32_t rank) {
    NcclCollective::Options patient;
    patient.exchange_patience = rank == 0 ? absl::Milliseconds(500) : absl::Seconds(60);
    return patient;
  };
  const absl::Time start = absl::Now();
  RunGang(2, 4, options, [&](uint32_t rank, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    std::vector<float> out;
    const absl::Status status = Reduce(**made, 1000, 1, &out);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << rank;
    EXPECT_THAT(Words(status), AllOf(HasSubstr("rank 0"), HasSubstr("did not end within 500ms")));
  });
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(NcclCollective, RankThatLeaves_InsteadOfReducing_IsNamed) {
  const absl::Time start = absl::Now();
  RunGang(
      2, 4, Ordered,
      [&](uint32_t rank, MadeCollective& made) {
        ASSERT_TRUE(made.ok()) << made.status();
        if (rank == 1) return;
        std::vector<float> out;
        const absl::Status status = Reduce(**made, 1000, 1, &out);
        EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
        EXPECT_THAT(Words(status), HasSubstr("rank 1 (worker worker-1): left the gang"));
      },
      absl::Seconds(1));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(NcclCollective, InjectedErrors_AreReported_AndEndTheOthers) {
  struct Case {
    int call;
    StandInFault fault;
    const char* words;
  };
  for (const Case& one :
       {Case{0, StandInFault::kErrorNow, "ncclCommInitRankConfig: the injected error"},
        Case{0, StandInFault::kErrorLater, "remote process exited"},
        Case{1, StandInFault::kErrorNow, "ncclSend: the injected error"},
        Case{2, StandInFault::kErrorLater, "remote process exited"},
        Case{5, StandInFault::kErrorNow, "ncclAllGather: the injected error"}}) {
    InjectFault(1, one.call, one.fault);
    std::atomic<int> ended = 0;
    auto options = [](uint32_t) {
      NcclCollective::Options quick;
      quick.blame_patience = absl::Milliseconds(100);
      return quick;
    };
    RunGang(3, 4, options, [&](uint32_t rank, MadeCollective& made) {
      const absl::Status status = made.ok() ? ReduceUntilError(**made) : made.status();
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_THAT(Words(status),
                  AllOf(HasSubstr(rank == 1 ? "rank 1 of 3" : "rank 1 (worker worker-1)"),
                        HasSubstr(one.words), HasSubstr("NCCL_DEBUG")))
          << "call " << one.call;
      ++ended;
    });
    EXPECT_EQ(ended, 3);
  }
}

TEST(NcclCollective, CommunicatorThatNeverGetsReady_EndsByTheJoinPatience) {
  InjectFault(1, 0, StandInFault::kHang);
  auto options = [](uint32_t) {
    NcclCollective::Options patient;
    patient.join_patience = absl::Milliseconds(500);
    return patient;
  };
  RunGang(2, 4, options, [&](uint32_t, MadeCollective& made) {
    EXPECT_EQ(made.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(Words(made.status()), HasSubstr("ncclCommInitRankConfig"));
  });
}

TEST(NcclCollective, RanksWithOtherLengths_Fail) {
  RunGang(2, 4, Ordered, [&](uint32_t rank, MadeCollective& made) {
    ASSERT_TRUE(made.ok()) << made.status();
    std::vector<float> out;
    const absl::Status status = Reduce(**made, rank == 0 ? 1000 : 3000, 1, &out);
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kInternal, absl::StatusCode::kUnavailable));
    EXPECT_THAT(Words(status), HasSubstr("expected"));
  });
}

TEST(NcclCollective, RanksWithOtherReductions_AreRefused) {
  RunGang(
      2, 4, [](uint32_t rank) { return rank == 0 ? Ordered(0) : Fast(1); },
      [](uint32_t, MadeCollective& made) {
        EXPECT_FALSE(made.ok());
        EXPECT_THAT(Words(made.status()), HasSubstr("different reductions"));
      });
}

TEST(NcclCollective, WrongNumberOfShards_IsInvalid) {
  RunGang(1, 4, Ordered, [](uint32_t, MadeCollective& made) {
    std::vector<float> one(10);
    const std::vector<float*> shards = {one.data()};
    EXPECT_EQ((*made)->OrderedReduce(shards, 10, one.data()).code(),
              absl::StatusCode::kInvalidArgument);
  });
}

// A device that goes on working after the abort: the memory is not the caller's again.
class RestlessDevice : public Device {
 public:
  std::string name() const override { return "GPU 7"; }
  void* stream() const override { return host_->stream(); }
  absl::Status MakeCurrent() override { return absl::OkStatus(); }
  absl::StatusOr<void*> Allocate(uint64_t bytes) override { return host_->Allocate(bytes); }
  void Free(void* memory) override { host_->Free(memory); }
  absl::Status Copy(void* to, const void* from, uint64_t bytes) override {
    return host_->Copy(to, from, bytes);
  }
  absl::Status Launch(uint32_t functor, const void* bytes, uint64_t n) override {
    return host_->Launch(functor, bytes, n);
  }
  absl::StatusOr<void*> AllocateHost(uint64_t bytes) override { return host_->Allocate(bytes); }
  void FreeHost(void* memory) override { host_->Free(memory); }
  absl::StatusOr<std::unique_ptr<Device>> Branch() override { return host_->Branch(); }
  absl::Status Precede(Device& other) override { return host_->Precede(other); }
  void ReleaseCache() override {}
  uint64_t MemoryFailures() const override { return 0; }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Record(
      absl::FunctionRef<absl::Status()> queue) override {
    return host_->Record(queue);
  }
  absl::StatusOr<bool> Idle() override { return false; }
  absl::Status Finish() override { return host_->Finish(); }

 private:
  std::unique_ptr<Device> host_ = MakeHostDevice();
};

TEST(NcclCollective, DeviceThatDoesNotComeToRest_IsAnErrorOfItsOwn) {
  RestlessDevice device;
  NcclCollective::Options options;
  options.exchange_patience = absl::Milliseconds(100);
  options.rest_patience = absl::Milliseconds(100);
  auto made = NcclCollective::Create(StandInApi(), &device, MakeLocalCollective(4), options);
  ASSERT_TRUE(made.ok()) << made.status();
  std::vector<float> out;
  const absl::Status status = Reduce(**made, 100, 1, &out);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(Words(status), AllOf(HasSubstr("GPU 7"), HasSubstr("did not come to rest")));
}

}  // namespace
}  // namespace dermis
