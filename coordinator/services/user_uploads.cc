#include "coordinator/services/user_uploads.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "common/files.h"
#include "common/log.h"

namespace dermis {
namespace fs = std::filesystem;
namespace {

constexpr absl::Duration kLookEvery = absl::Minutes(1);

absl::Status Check(const std::string& user, const char* what, uint64_t by_studies, uint64_t uploads, uint64_t more, uint64_t most,
                   const char* option, absl::Duration keep) {
  if (most == 0 || by_studies + uploads + more <= most) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "user ", user, " has ", by_studies, " ", what, " by studies and ", uploads, " that were uploaded and no study names, this upload would add ", more,
      ", and a user may have ", most, ": delete studies that are over (dermis delete STUDY), wait (what no study names goes ",
      absl::FormatDuration(keep), " after it was last asked for), or ask whoever runs the cluster for more (dermis-coordinator ", option, ")"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<UserUploads>> UserUploads::Open(const std::string& folder, const BlobStore& store,
                                                               const Clock& clock, Options options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  fs::directory_iterator files;
  if (!error) files = fs::directory_iterator(folder, error);
  if (error) return absl::UnavailableError(absl::StrCat("the folder ", folder, " cannot be used: ", error.message()));
  std::unique_ptr<UserUploads> uploads(new UserUploads(folder, clock, options));
  absl::MutexLock lock(&uploads->mutex_);
  for (const fs::directory_entry& file : files) {
    const absl::StatusOr<Digest> blob = Digest::FromHex(file.path().filename().string());
    const absl::StatusOr<std::string> user = ReadFile(file.path().string());
    const absl::StatusOr<uint64_t> size = blob.ok() ? store.Size(*blob) : blob.status();
    if (blob.ok() && user.ok() && size.ok()) {
      uploads->Add(*blob, *user, *size);
    } else {
      fs::remove(file.path(), error);  // It died before the blob was stored.
    }
  }
  return uploads;
}

std::string UserUploads::FileOf(const Digest& blob) const { return absl::StrCat(folder_, "/", blob.hex()); }

void UserUploads::Add(const Digest& blob, const std::string& user, uint64_t size) {
  const absl::Duration now = clock_.Now();
  if (!uploads_.try_emplace(blob, Upload{user, size, now}).second) return;
  by_age_.emplace(now, blob);
  Usage& has = accounts_[user].uploads;
  ++has.blobs;
  has.bytes += size;
}

void UserUploads::Forget(std::map<Digest, Upload>::iterator upload) {
  Usage& has = accounts_[upload->second.user].uploads;
  --has.blobs;
  has.bytes -= upload->second.size;
  std::error_code ignored;
  fs::remove(FileOf(upload->first), ignored);
  by_age_.erase({upload->second.wanted, upload->first});
  uploads_.erase(upload);
}

absl::Status UserUploads::Begin(const std::string& user, uint64_t size) {
  absl::MutexLock lock(&mutex_);
  Account& account = accounts_[user];
  absl::Status status = Check(user, "blobs", account.by_studies.blobs, account.uploads.blobs + account.under_way.blobs, 1,
                              options_.quota.blobs, "--user-blobs", options_.keep);
  if (status.ok()) {
    status = Check(user, "bytes", account.by_studies.bytes, account.uploads.bytes + account.under_way.bytes, size,
                   options_.quota.bytes, "--user-gib", options_.keep);
  }
  if (!status.ok()) return status;
  ++account.under_way.blobs;
  account.under_way.bytes += size;
  return absl::OkStatus();
}

absl::Status UserUploads::Storing(const std::string& user, const Digest& blob, uint64_t size) {
  absl::MutexLock lock(&mutex_);
  std::ofstream file(FileOf(blob), std::ios::trunc);
  file << user;
  file.close();
  if (!file) {
    return absl::UnavailableError(absl::StrCat("blob ", blob.short_hex(), ": ", FileOf(blob), " cannot be written: look at the disk"));
  }
  Add(blob, user, size);
  return absl::OkStatus();
}

void UserUploads::End(const std::string& user, const Digest& blob, uint64_t size, bool there) {
  absl::MutexLock lock(&mutex_);
  Usage& under_way = accounts_[user].under_way;
  --under_way.blobs;
  under_way.bytes -= size;
  const auto upload = uploads_.find(blob);
  if (!there && upload != uploads_.end()) Forget(upload);
}

void UserUploads::Wanted(const Digest& blob) {
  absl::MutexLock lock(&mutex_);
  const auto upload = uploads_.find(blob);
  if (upload == uploads_.end()) return;
  by_age_.erase({upload->second.wanted, blob});
  upload->second.wanted = clock_.Now();
  by_age_.emplace(upload->second.wanted, blob);
}

void UserUploads::Named(const std::string& user, const Usage& by_studies, const std::vector<Digest>& blobs) {
  absl::MutexLock lock(&mutex_);
  accounts_[user].by_studies = by_studies;
  for (const Digest& blob : blobs) {
    if (const auto upload = uploads_.find(blob); upload != uploads_.end()) Forget(upload);
  }
}

std::vector<Digest> UserUploads::Due(size_t most) {
  std::vector<Digest> due;
  absl::MutexLock lock(&mutex_);
  const absl::Duration now = clock_.Now();
  if (now < next_look_) return due;
  next_look_ = now + kLookEvery;
  for (auto it = by_age_.begin();
       it != by_age_.end() && due.size() < most && it->first + options_.keep <= now; ++it) {
    due.push_back(it->second);
  }
  return due;
}

bool UserUploads::Take(const Digest& blob) {
  absl::MutexLock lock(&mutex_);
  const auto upload = uploads_.find(blob);
  if (upload == uploads_.end() || upload->second.wanted + options_.keep > clock_.Now()) return false;
  DERMIS_LOG(kInfo, "blob ", blob.short_hex(), " (", upload->second.size, " bytes, uploaded by ", upload->second.user,
             ") goes: no study has named it");
  Forget(upload);
  return true;
}

}  // namespace dermis
