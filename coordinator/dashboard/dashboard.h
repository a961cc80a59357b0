// The dashboard: pages for people, metrics for Prometheus, health for load balancers. It reads
// snapshots, the journal (chronicle.h) and blobs, and changes nothing; a user may ask about an image (question_board.h).
// docs/dashboard.md lists the addresses.
#ifndef DERMIS_COORDINATOR_DASHBOARD_DASHBOARD_H_
#define DERMIS_COORDINATOR_DASHBOARD_DASHBOARD_H_

#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "coordinator/audit_log.h"
#include "coordinator/dashboard/chronicle.h"
#include "coordinator/dashboard/explanations.h"
#include "coordinator/dashboard/http_server.h"
#include "coordinator/dashboard/question_board.h"
#include "coordinator/dashboard/sign_in.h"
#include "coordinator/dashboard/snapshot.h"

namespace dermis {

// Answers requests. Thread-safe; all that is given outlives it.
class Dashboard {
 public:
  struct Sources {
    std::function<std::shared_ptr<const Snapshot>()> snapshot;  // May give null.
    std::function<absl::Time()> now = [] { return absl::Now(); };
    const Chronicle* chronicle = nullptr;  // Null: nothing is known of what has happened.
    const ExplanationReader* explanations = nullptr;  // Null: none are shown.
    QuestionBoard* questions = nullptr;               // Null: nobody may ask.
    const SignIn* users = nullptr;                    // Who may ask; they may look, too. With `questions`.
    AuditLog* audit = nullptr;  // Has a line for each refusal. Null: there is none.
  };
  // secure: served over TLS, and the cookie says so.
  Dashboard(Sources sources, SignIn sign_in, bool secure)
      : sources_(std::move(sources)),
        sign_in_(std::move(sign_in)),
        secure_(secure),
        // Browsers give the cookies of a host to all its ports: each cluster has a name of its own.
        cookie_(absl::StrCat(secure ? "__Host-" : "", "dermis-", sign_in_.Fingerprint())) {}

  HttpResponse Answer(const HttpRequest& request) const;
  // HttpServer::Options::larger_body: pictures, of users; others hear that they need a user's token.
  std::variant<uint32_t, HttpResponse> LargerBody(const HttpRequest& request) const;
  // HttpServer::Options::refused: a line in the audit log, as of a stranger. `why`: nothing of what
  // was said.
  void Refused(const std::string& client, const char* why) const;

 private:
  bool SignedIn(const HttpRequest& request) const;
  // By the Authorization header alone: what a page of somebody else could make a browser send (a cookie) is not enough.
  bool IsUser(const HttpRequest& request) const;
  // POST /api/studies/ID/questions; GET and DELETE /api/questions/NAME; GET /api/questions/NAME/image.
  bool IsQuestion(const HttpRequest& request) const;
  HttpResponse Question(const HttpRequest& request) const;
  HttpResponse NeedsUser(const HttpRequest& request) const;
  HttpResponse Ask(const HttpRequest& request, const std::string& study) const;
  // Refused; of wrong tokens there is a line in the process's log, too, at most once a second.
  void NoteRefusal(const HttpRequest& request, const char* why, bool wrong_token) const;
  HttpResponse Route(const HttpRequest& request) const;
  HttpResponse Session(const HttpRequest& request) const;
  HttpResponse Api(const HttpRequest& request, const Snapshot& snapshot) const;
  HttpResponse ApiOfStudy(const HttpRequest& request, const Snapshot& snapshot,
                          const std::string& id, const std::string& what) const;
  HttpResponse ReadStudy(const HttpRequest& request, const StudySnapshot& study,
                         const std::string& what) const;
  std::string SetCookie(const std::string& value, absl::Duration age) const;

  const Sources sources_;
  const SignIn sign_in_;
  const bool secure_;
  const std::string cookie_;  // Its name.
  mutable absl::Mutex mutex_;
  mutable absl::Time noted_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  mutable uint64_t refusals_ ABSL_GUARDED_BY(mutex_) = 0;  // Since then.
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_DASHBOARD_H_
