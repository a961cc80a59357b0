// An input of the target `dashboard`: a request as a client writes it (request line, headers, an
// empty line, body), and a dashboard that answers it, without a server: HTTP itself is
// libmicrohttpd's.
#ifndef DERMIS_TESTS_FUZZ_REQUESTS_H_
#define DERMIS_TESTS_FUZZ_REQUESTS_H_

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "coordinator/core.h"
#include "coordinator/core_thread.h"
#include "coordinator/dashboard/dashboard.h"
#include "tests/fuzz/fuzz.h"
#include "tests/simulation/fakes.h"
#include "tests/unit/coordinator/dashboard/fake_sweep.h"

namespace dermis {

// %41 is A, as libmicrohttpd has it; what is no such number stays.
inline std::string Decoded(absl::string_view text) {
  std::string out;
  const auto digit = [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c))
               ? c - '0'
               : absl::ascii_tolower(static_cast<unsigned char>(c)) - 'a' + 10;
  };
  const auto is = [&](size_t at) {
    return at < text.size() && absl::ascii_isxdigit(static_cast<unsigned char>(text[at]));
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const bool coded = text[i] == '%' && is(i + 1) && is(i + 2);
    out += coded ? static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2])) : text[i];
    if (coded) i += 2;
  }
  return out;
}

inline HttpRequest RequestOf(absl::string_view text) {
  HttpRequest request;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits("\r\n\r\n", 1));
  const std::vector<absl::string_view> lines = absl::StrSplit(parts.first, "\r\n");
  const std::vector<absl::string_view> words = absl::StrSplit(lines[0], absl::MaxSplits(' ', 2));
  request.method = std::string(words[0]);
  const std::pair<absl::string_view, absl::string_view> target =
      absl::StrSplit(words.size() > 1 ? words[1] : "", absl::MaxSplits('?', 1));
  request.path = Decoded(target.first);
  for (const absl::string_view one : absl::StrSplit(target.second, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(one, absl::MaxSplits('=', 1));
    request.query[Decoded(pair.first)] = Decoded(pair.second);
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> header =
        absl::StrSplit(lines[i], absl::MaxSplits(':', 1));
    request.headers[absl::AsciiStrToLower(header.first)] =
        std::string(absl::StripLeadingAsciiWhitespace(header.second));
  }
  request.body = std::string(parts.second);
  request.client = "192.0.2.7";
  return request;
}

// Whose tokens are known: 64 times 'a', of a user 'b'.
class FuzzedDashboard {
 public:
  FuzzedDashboard() {
    core_.emplace(clock_, journal_, outbox_, blobs_, Core::Options());
    Require(core_->Open().ok(), "an empty journal can be opened");
    thread_.emplace(*core_, [](const absl::Status&) { Require(false, "what happened is stored"); });
    desk_.emplace(*thread_);
    questions_.emplace(*desk_, decoder_);
    auto study = FakeSweep(30, [](uint32_t trial) { return trial / 30.; });
    v1::ImageSetManifest manifest = *FakeManifest(40);
    manifest.mutable_images(7)->set_digest(Sha256Of(std::string(32 * 32 * 3, 'p')).bytes());
    study->image_set = *Digest::FromBytes(PutSet(blobs_, manifest));
    study->methods = {"lime"};
    study->explained.resize(3);
    for (ExplainedRow& row : study->explained) row.methods.resize(1);
    study->failures.push_back({Sha256Of("t"), "trial 1", "line one\nline \xff two", "w"});
    study->failures_total = 1;
    auto snapshot = std::make_shared<Snapshot>();
    snapshot->taken = Now();
    snapshot->studies.push_back(study);
    Dashboard::Sources sources;
    sources.snapshot = [snapshot] { return snapshot; };
    sources.now = [] { return Now(); };
    sources.explanations = &explanations_;
    sources.questions = &*questions_;
    sources.users = &users_;
    dashboard_.emplace(std::move(sources), sign_in_, /*secure=*/true);
  }

  static absl::Time Now() { return absl::FromUnixSeconds(1'800'000'000); }
  static std::string Token() { return std::string(64, 'a'); }
  static std::string UsersToken() { return std::string(64, 'b'); }
  std::string Cookie() const {
    return absl::StrCat("__Host-dermis-", sign_in_.Fingerprint(), "=", sign_in_.CookieValue(Now()));
  }

  // As the server does: the head alone is looked at first.
  HttpResponse Take(const HttpRequest& request) const {
    HttpRequest head = request;
    head.body.clear();
    auto larger = dashboard_->LargerBody(head);
    if (auto* const refused = std::get_if<HttpResponse>(&larger)) return std::move(*refused);
    if (request.body.size() >
        std::max<uint32_t>(std::get<uint32_t>(larger), HttpServer::Options().request_body)) {
      HttpResponse response;
      response.status = 413;
      return response;
    }
    return dashboard_->Answer(request);
  }

 private:
  static SignIn SignInOf(const std::string& token) {
    std::string folder = (std::filesystem::temp_directory_path() / "dermis-fuzz-XXXXXX").string();
    Require(mkdtemp(folder.data()) != nullptr, "there is a folder");
    const std::string file = folder + "/token";
    std::ofstream(file) << token;
    std::filesystem::permissions(file, std::filesystem::perms::owner_read);
    SignIn sign_in = *SignIn::Open(file);
    std::filesystem::remove_all(folder);
    Require(sign_in.IsToken(token), "it is the token");
    return sign_in;
  }

  FakeClock clock_;
  FakeDisk disk_;
  MemoryJournal journal_{disk_};
  RecordingOutbox outbox_;
  FakeBlobs blobs_;
  const SignIn sign_in_ = SignInOf(Token()), users_ = SignInOf(UsersToken());
  ExplanationReader explanations_{journal_, blobs_, [](const Digest&, uint64_t, uint64_t size) {
                                    return std::string(size, 'p');
                                  }};
  Decoder decoder_{"there is none"};  // Pictures have a target of their own.
  std::optional<Core> core_;
  std::optional<CoreThread> thread_;
  std::optional<QuestionDesk> desk_;
  std::optional<QuestionBoard> questions_;
  std::optional<Dashboard> dashboard_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_FUZZ_REQUESTS_H_
