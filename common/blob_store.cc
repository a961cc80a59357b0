#include "common/blob_store.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/blob_trim.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

absl::Status Failed(std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno,
                             absl::StrCat("blob store: cannot ", std::string(what), " ", path));
}

class File {  // Closes.
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

absl::Status SyncFolder(const std::string& path) {
  const File folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.fd() < 0) return Failed("open", path);
  if (fsync(folder.fd()) != 0) return Failed("fsync", path);
  return absl::OkStatus();
}

// mkdir -p, mode 0700.
absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return Failed("make", part);
    if (slash == std::string::npos) break;
  }
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return Failed("read", path);
  if (!S_ISDIR(info.st_mode)) {
    errno = ENOTDIR;
    return Failed("use", path);
  }
  return absl::OkStatus();
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

class Disk : public BlobStore {
 public:
  Disk(std::string directory, Options options)
      : directory_(std::move(directory)), options_(options) {}

  absl::Status Start() {
    RETURN_IF_ERROR(MakeFolders(directory_));
    RETURN_IF_ERROR(MakeFolders(TemporaryFolder()));
    DIR* const folder = opendir(TemporaryFolder().c_str());
    if (folder == nullptr) return Failed("list", TemporaryFolder());
    while (const dirent* entry = readdir(folder)) {
      if (entry->d_name[0] == '.') continue;
      const std::string path = absl::StrCat(TemporaryFolder(), "/", entry->d_name);
      // A writer holds a lock on its file: where the lock is free, the writer is gone. Workers of
      // one host may share a cache, so a file is not a leftover only because another process made
      // it.
      const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      if (file.fd() >= 0 && flock(file.fd(), LOCK_EX | LOCK_NB) == 0) unlink(path.c_str());
    }
    closedir(folder);
    return absl::OkStatus();
  }

  bool Has(const Digest& digest) const override { return Exists(PathOf(digest)); }

  absl::StatusOr<uint64_t> Size(const Digest& digest) const override {
    struct stat info {};
    if (stat(PathOf(digest).c_str(), &info) != 0) return Missing(digest);
    return static_cast<uint64_t>(info.st_size);
  }

  absl::StatusOr<std::unique_ptr<Writer>> NewWriter() override { return NewWriter(Digest()); }

  // `known`: the hash of what will be written; none: it is computed.
  absl::StatusOr<std::unique_ptr<Writer>> NewWriter(const Digest& known) {
    RETURN_IF_ERROR(CheckSpace(0));
    const std::string path =
        absl::StrCat(TemporaryFolder(), "/", getpid(), ".", counter_.fetch_add(1), ".",
                     reinterpret_cast<uintptr_t>(this));  // Two stores of one process differ.
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return Failed("make", path);
    auto writer = std::make_unique<DiskWriter>(this, path, fd, known);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) return Failed("lock", path);
    return std::unique_ptr<Writer>(std::move(writer));
  }

  absl::StatusOr<Digest> Put(std::string_view bytes) override {
    const Digest digest = Sha256Of(bytes);
    if (Has(digest)) {
      RETURN_IF_ERROR(MakeDurable(digest));
      return digest;
    }
    ASSIGN_OR_RETURN(std::unique_ptr<Writer> writer, NewWriter(digest));
    RETURN_IF_ERROR(writer->Append(bytes));
    RETURN_IF_ERROR(writer->Commit(digest));
    return digest;
  }

  absl::StatusOr<std::unique_ptr<Reader>> NewReader(const Digest& digest) override {
    const std::string path = PathOf(digest);
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      if (errno == ENOENT) return Missing(digest);
      return Failed("open", path);
    }
    auto reader = std::make_unique<DiskReader>(this, digest, fd);
    RETURN_IF_ERROR(reader->Start(path));
    return std::unique_ptr<Reader>(std::move(reader));
  }

  absl::StatusOr<std::string> Get(const Digest& digest) override {
    ASSIGN_OR_RETURN(const std::unique_ptr<Reader> reader, NewReader(digest));
    std::string bytes;
    RETURN_IF_ERROR(reader->Read(reader->size(), &bytes));
    return bytes;
  }

  std::string PathOf(const Digest& digest) const override {
    const std::string hex = digest.hex();
    return absl::StrCat(directory_, "/", hex.substr(0, 2), "/", hex.substr(2));
  }

  absl::Status Remove(const Digest& digest) override {
    const std::string path = PathOf(digest);
    if (unlink(path.c_str()) != 0) {
      if (errno == ENOENT) return absl::OkStatus();
      return Failed("remove", path);
    }
    return options_.durable ? SyncFolder(FolderOf(digest)) : absl::OkStatus();
  }

  uint64_t FreeBytes() const override {
    struct statvfs info {};
    if (statvfs(directory_.c_str(), &info) != 0) return 0;
    return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
  }

  uint64_t Trim(uint64_t limit) override { return TrimBlobs(directory_, limit); }

 private:
  class DiskReader : public Reader {
   public:
    DiskReader(Disk* store, const Digest& digest, int fd)
        : store_(store), digest_(digest), file_(fd) {}

    absl::Status Start(const std::string& path) {
      struct stat info {};
      if (fstat(file_.fd(), &info) != 0) return Failed("read", path);
      size_ = left_ = static_cast<uint64_t>(info.st_size);
      // Of a cache: TrimBlobs goes by the time, and leaves what is locked. Best effort both.
      if (!store_->options_.durable) {
        futimens(file_.fd(), nullptr);
        flock(file_.fd(), LOCK_SH | LOCK_NB);
      }
      return absl::OkStatus();
    }

    uint64_t size() const override { return size_; }

    absl::Status Read(size_t most, std::string* piece) override {
      piece->resize(std::min<uint64_t>(most, left_));
      size_t done = 0;
      while (done < piece->size()) {
        const ssize_t n = read(file_.fd(), piece->data() + done, piece->size() - done);
        if (n < 0 && errno == EINTR) continue;
        // EIO is what a bad sector gives: the blob is lost as surely as if its bytes had changed.
        if (n < 0 && errno != EIO) return Failed("read", store_->PathOf(digest_));
        if (n <= 0) return Damaged();
        done += static_cast<size_t>(n);
      }
      hash_.Update(piece->data(), piece->size());
      left_ -= piece->size();
      if (left_ > 0 || checked_) return absl::OkStatus();
      checked_ = true;
      return hash_.Finish() == digest_ ? absl::OkStatus() : Damaged();
    }

   private:
    absl::Status Damaged() {
      // Meanwhile a good one may have come in its place, which is another file.
      struct stat opened {}, there {};
      if (fstat(file_.fd(), &opened) == 0 && stat(store_->PathOf(digest_).c_str(), &there) == 0 &&
          opened.st_ino == there.st_ino) {
        RETURN_IF_ERROR(store_->Remove(digest_));
      }
      return absl::DataLossError(absl::StrCat(
          "blob ", digest_.hex(), " was damaged on disk (", store_->PathOf(digest_),
          "): it has been removed and must be uploaded or computed again; check the disk"));
    }

    Disk* const store_;
    const Digest digest_;
    const File file_;
    uint64_t size_ = 0, left_ = 0;
    Sha256 hash_;
    bool checked_ = false;
  };

  class DiskWriter : public Writer {
   public:
    DiskWriter(Disk* store, std::string path, int fd, const Digest& known)
        : store_(store), path_(std::move(path)), file_(fd), known_(known) {}
    ~DiskWriter() override {
      if (!path_.empty()) unlink(path_.c_str());
    }

    absl::Status Append(std::string_view data) override {
      RETURN_IF_ERROR(Usable());
      if (absl::Status status = store_->CheckSpace(data.size()); !status.ok()) return End(status);
      if (known_.none()) hash_.Update(data.data(), data.size());
      while (!data.empty()) {
        const ssize_t n = write(file_.fd(), data.data(), data.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return End(Failed("write", path_));
        data.remove_prefix(static_cast<size_t>(n));
      }
      return absl::OkStatus();
    }

    absl::Status Commit(const Digest& expected) override {
      RETURN_IF_ERROR(Usable());
      const Digest got = known_.none() ? hash_.Finish() : known_;
      if (got != expected) {
        return End(absl::InvalidArgumentError(
            absl::StrCat("the bytes hash to ", got.hex(), ", not to the blob's name ",
                         expected.hex(), ": nothing was stored")));
      }
      if (store_->Has(expected)) return End(store_->MakeDurable(expected));
      if (store_->options_.durable && fsync(file_.fd()) != 0) return End(Failed("fsync", path_));
      const std::string folder = store_->FolderOf(expected);
      if (mkdir(folder.c_str(), 0700) == 0) {
        if (store_->options_.durable) {
          if (absl::Status status = SyncFolder(store_->directory_); !status.ok())
            return End(status);
        }
      } else if (errno != EEXIST) {
        return End(Failed("make", folder));
      }
      if (rename(path_.c_str(), store_->PathOf(expected).c_str()) != 0) {
        return End(Failed("rename", path_));
      }
      path_.clear();  // Not ours to remove any more.
      ended_ = true;
      return store_->MakeDurable(expected);
    }

   private:
    absl::Status Usable() const {
      return ended_ ? absl::FailedPreconditionError("this blob writer has ended")
                    : absl::OkStatus();
    }
    absl::Status End(absl::Status status) {
      ended_ = true;
      if (!path_.empty()) unlink(path_.c_str());
      path_.clear();
      return status;
    }

    Disk* const store_;
    std::string path_;  // Of the temporary file; "" when it is gone.
    File file_;
    const Digest known_;
    Sha256 hash_;
    bool ended_ = false;
  };

  // Also where another writer renamed the file a moment ago and has not yet synced the folder.
  absl::Status MakeDurable(const Digest& digest) const {
    if (!options_.durable) return absl::OkStatus();
    return SyncFolder(FolderOf(digest));
  }

  absl::Status CheckSpace(uint64_t more) const {
    if (options_.reserve_bytes == 0) return absl::OkStatus();
    const uint64_t free = FreeBytes();
    if (free < more || free - more < options_.reserve_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "blob store: ", free >> 20, " MiB are free on the disk of ", directory_, ", ",
          options_.reserve_bytes >> 20, " MiB are kept in reserve: free some space"));
    }
    return absl::OkStatus();
  }

  absl::Status Missing(const Digest& digest) const {
    return absl::NotFoundError(absl::StrCat("blob ", digest.hex(), " is not in ", directory_));
  }

  std::string TemporaryFolder() const { return absl::StrCat(directory_, "/tmp"); }
  std::string FolderOf(const Digest& digest) const {
    return absl::StrCat(directory_, "/", digest.hex().substr(0, 2));
  }

  const std::string directory_;
  const Options options_;
  std::atomic<uint64_t> counter_{0};
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& directory,
                                                           Options options) {
  auto disk = std::make_unique<Disk>(directory, options);
  RETURN_IF_ERROR(disk->Start());
  return std::unique_ptr<BlobStore>(std::move(disk));
}

}  // namespace dermis
