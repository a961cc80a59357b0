#include "coordinator/services/failed_handshakes.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "grpc/support/log.h"

#include "common/log.h"

namespace dermis {
namespace {

struct Observer {
  absl::Mutex mutex;
  std::function<void(const std::string&)> hear ABSL_GUARDED_BY(mutex);
};

Observer& TheObserver() {
  static Observer* const observer = new Observer;
  return *observer;
}

// What a server says of a handshake that failed; and OpenSSL's own word before, for clients, too.
constexpr std::string_view kFailed = "Handshaking failed: ", kBefore = "Handshake failed with fatal error ";

void Hear(gpr_log_func_args* line) {
  const std::string_view message = line->message;
  if (const std::optional<std::string> why = FailedHandshake(message)) {
    Observer& observer = TheObserver();
    absl::ReaderMutexLock lock(&observer.mutex);
    if (observer.hear != nullptr) observer.hear(*why);
  } else if (line->severity == GPR_LOG_SEVERITY_ERROR && !message.starts_with(kBefore)) {
    DERMIS_LOG(kWarning, "gRPC: ", line->message);
  } else {
    DERMIS_LOG(kDebug, "gRPC: ", line->message);
  }
}

// Of "...BEGIN text END...": text.
std::string_view Between(std::string_view text, std::string_view begin, std::string_view end) {
  const size_t at = text.find(begin);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + begin.size());
  return text.substr(0, text.find(end));
}

}  // namespace

std::optional<std::string> FailedHandshake(std::string_view line) {
  if (!line.starts_with(kFailed)) return std::nullopt;
  if (line.find("Handshake timed out") != std::string_view::npos) return "the TLS handshake was not over in time";
  std::string_view why = Between(line, "SSL routines::", " {");
  // Another CA of the same name: its signature is not one by our CA's key.
  if (why.empty() && !Between(line, "asn1 encoding routines::", " {").empty()) why = "certificate verify failed";
  if (why.empty()) why = Between(line, "Cannot check peer: ", " {");
  if (why.empty()) return std::nullopt;
  return absl::StrCat("the TLS handshake failed: ", std::string(why),
                      why == "certificate verify failed" ? " (it has expired, or another CA signed it)" : "");
}

void OnFailedHandshake(std::function<void(const std::string&)> observer) {
  {
    absl::MutexLock lock(&TheObserver().mutex);
    TheObserver().hear = std::move(observer);
  }
  gpr_set_log_function(Hear);
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_DEBUG);  // What servers say of handshakes is of this kind.
}

}  // namespace dermis
