#include "common/blob_store.h"

#include <sys/stat.h>

#include <limits>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/common/test_folder.h"

namespace dermis {
namespace {

std::unique_ptr<BlobStore> OpenStore(const std::string& path, BlobStore::Options options = {}) {
  auto store = BlobStore::Open(path, options);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

TEST(BlobStore, WhatIsPut_IsThere_AlsoAfterReopening) {
  TestFolder folder;
  const std::string bytes(100'000, 'q');
  Digest digest;
  {
    auto store = OpenStore(folder / "deep/store");
    auto put = store->Put(bytes);
    ASSERT_TRUE(put.ok()) << put.status();
    digest = *put;
  }
  auto store = OpenStore(folder / "deep/store");
  EXPECT_EQ(digest, Sha256Of(bytes));
  EXPECT_TRUE(store->Has(digest));
  EXPECT_EQ(*store->Size(digest), bytes.size());
  EXPECT_EQ(*store->Get(digest), bytes);
  EXPECT_EQ(FileBytes(store->PathOf(digest)), bytes);
  EXPECT_GT(store->FreeBytes(), 0u);
  struct stat info {};
  ASSERT_EQ(stat((folder / "deep/store").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST(BlobStore, EmptyBlob_IsABlob) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  const Digest digest = *store->Put("");
  EXPECT_TRUE(store->Has(digest));
  EXPECT_EQ(*store->Get(digest), "");
}

TEST(BlobStore, AbsentBlob_IsNotFound_AndRemovingItIsFine) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  const Digest digest = Sha256Of("absent");
  EXPECT_FALSE(store->Has(digest));
  EXPECT_EQ(store->Get(digest).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store->Size(digest).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store->Remove(digest).ok());
  const Digest there = *store->Put("x");
  EXPECT_TRUE(store->Remove(there).ok());
  EXPECT_FALSE(store->Has(there));
}

TEST(BlobStore, Streaming_StoresOnlyWhatHashesToItsName) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  auto writer = *store->NewWriter();
  ASSERT_TRUE(writer->Append("ab").ok());
  EXPECT_FALSE(store->Has(Sha256Of("abc")));
  ASSERT_TRUE(writer->Append("c").ok());
  ASSERT_TRUE(writer->Commit(Sha256Of("abc")).ok());
  EXPECT_EQ(*store->Get(Sha256Of("abc")), "abc");
  EXPECT_EQ(writer->Append("d").code(), absl::StatusCode::kFailedPrecondition);

  auto liar = *store->NewWriter();
  ASSERT_TRUE(liar->Append("evil").ok());
  EXPECT_EQ(liar->Commit(Sha256Of("good")).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(store->Has(Sha256Of("good")));
  EXPECT_FALSE(store->Has(Sha256Of("evil")));
  EXPECT_EQ(CountFiles(folder.path()), 1) << "nothing of the refused blob stays";
}

TEST(BlobStore, StoringTwice_IsFine_AndKeepsOneFile) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  auto a = *store->NewWriter();
  auto b = *store->NewWriter();
  ASSERT_TRUE(a->Append("same").ok());
  ASSERT_TRUE(b->Append("same").ok());
  EXPECT_TRUE(a->Commit(Sha256Of("same")).ok());
  EXPECT_TRUE(b->Commit(Sha256Of("same")).ok());
  EXPECT_TRUE(store->Put("same").ok());
  EXPECT_EQ(CountFiles(folder.path()), 1);
}

TEST(BlobStore, DroppedWriter_LeavesNothing) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  {
    auto writer = *store->NewWriter();
    ASSERT_TRUE(writer->Append("half").ok());
  }
  EXPECT_EQ(CountFiles(folder.path()), 0);
}

TEST(BlobStore, DamagedBlob_IsDataLoss_AndRemoved) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  const Digest flipped = *store->Put("some bytes");
  const Digest truncated = *store->Put("other bytes");
  WriteFile(store->PathOf(flipped), "some bytez");
  WriteFile(store->PathOf(truncated), "");
  for (const Digest& digest : {flipped, truncated}) {
    EXPECT_EQ(store->Get(digest).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_FALSE(store->Has(digest));
    EXPECT_EQ(store->Get(digest).status().code(), absl::StatusCode::kNotFound);
  }
  EXPECT_TRUE(store->Put("some bytes").ok());
  EXPECT_EQ(*store->Get(flipped), "some bytes");
}

TEST(BlobStore, BelowTheReserve_NothingIsTaken_ButAllIsReadable) {
  TestFolder folder;
  Digest digest;
  digest = *OpenStore(folder.path())->Put("before");
  auto full = OpenStore(folder.path(),
                        {.durable = true, .reserve_bytes = std::numeric_limits<uint64_t>::max()});
  EXPECT_EQ(full->Put("after").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full->NewWriter().status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*full->Get(digest), "before");
  EXPECT_TRUE(full->Put("before").ok()) << "it is there already";
  EXPECT_EQ(CountFiles(folder.path()), 1);
}

TEST(BlobStore, DiskThatFillsUpWhileWriting_EndsTheWriter) {
  TestFolder folder;
  auto probe = OpenStore(folder.path());
  // 1 GiB of room above the reserve; the next append claims more than that.
  const uint64_t room = 1ull << 30;
  if (probe->FreeBytes() < 2 * room) GTEST_SKIP() << "the disk is too full";
  auto store =
      OpenStore(folder.path(), {.durable = true, .reserve_bytes = probe->FreeBytes() - room});
  auto writer = *store->NewWriter();
  ASSERT_TRUE(writer->Append("start").ok());
  const char byte = 0;
  // Never read: the writer must refuse by the size alone.
  EXPECT_EQ(writer->Append(std::string_view(&byte, uint64_t{1} << 40)).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(writer->Commit(Sha256Of("start")).ok());
  EXPECT_EQ(CountFiles(folder.path()), 0);
}

TEST(BlobStore, LeftoversOfACrash_GoAtOpen_ButNotTheFilesOfALivingWriter) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  auto alive = *store->NewWriter();
  ASSERT_TRUE(alive->Append("alive").ok());
  WriteFile(folder / "tmp/4711.0", "half a blob");
  ASSERT_EQ(CountFiles(folder.path()), 2);
  auto second = OpenStore(folder.path());
  EXPECT_EQ(CountFiles(folder.path()), 1);
  EXPECT_TRUE(alive->Commit(Sha256Of("alive")).ok());
  EXPECT_EQ(*second->Get(Sha256Of("alive")), "alive");
}

TEST(BlobStore, DirectoryThatIsAFile_IsAnError) {
  TestFolder folder;
  WriteFile(folder / "file", "x");
  EXPECT_FALSE(BlobStore::Open(folder / "file", {}).ok());
}

TEST(BlobStore, ManyThreads_StoreTheSameBlobs) {
  TestFolder folder;
  auto store = OpenStore(folder.path(), {.durable = false});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store] {
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(store->Put("blob " + std::to_string(i)).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(CountFiles(folder.path()), 50);
}

TEST(BlobStore, Reader_GivesPieces_AndNeverTheLastOneOfADamagedBlob) {
  TestFolder folder;
  auto store = OpenStore(folder.path());
  const std::string bytes = std::string(1000, 'a') + std::string(1000, 'b') + "c";
  const Digest digest = *store->Put(bytes);
  auto reader = *store->NewReader(digest);
  EXPECT_EQ(reader->size(), bytes.size());
  std::string all, piece;
  do {
    ASSERT_TRUE(reader->Read(1000, &piece).ok());
    EXPECT_LE(piece.size(), 1000u);
    all += piece;
  } while (!piece.empty());
  EXPECT_EQ(all, bytes);

  std::string damaged = bytes;
  damaged[10] = 'x';
  WriteFile(store->PathOf(digest), damaged);
  reader = *store->NewReader(digest);
  EXPECT_TRUE(reader->Read(2000, &piece).ok());
  EXPECT_EQ(reader->Read(2000, &piece).code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(store->Has(digest));
  EXPECT_EQ(store->NewReader(digest).status().code(), absl::StatusCode::kNotFound);
}

TEST(BlobStore, Trim_LeavesWhatIsRead_AndWhatIsWritten) {
  TestFolder folder;
  auto store = OpenStore(folder.path(), {.durable = false});
  const Digest read = *store->Put(std::string(1000, 'r')),
               idle = *store->Put(std::string(1000, 'i'));
  auto reader = *store->NewReader(read);
  auto writer = *store->NewWriter();
  ASSERT_TRUE(writer->Append("new").ok());
  EXPECT_EQ(store->Trim(5000), 2000u);
  EXPECT_TRUE(store->Has(idle));
  EXPECT_EQ(store->Trim(0), 1000u);
  EXPECT_TRUE(store->Has(read));
  EXPECT_FALSE(store->Has(idle));
  EXPECT_TRUE(writer->Commit(Sha256Of("new")).ok());
  reader.reset();
  writer.reset();
  EXPECT_EQ(store->Trim(0), 0u);
}

}  // namespace
}  // namespace dermis
