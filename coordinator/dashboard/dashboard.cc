#include "coordinator/dashboard/dashboard.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/spec_yaml.h"
#include "coordinator/dashboard/importance.h"
#include "coordinator/dashboard/metrics.h"
#include "coordinator/dashboard/pages.h"
#include "coordinator/dashboard/trial_table.h"

namespace dermis {
namespace {

using nlohmann::json;

// Older than this, what is shown says that the core does not answer.
constexpr absl::Duration kFresh = absl::Seconds(10);
constexpr size_t kMostOfAPage = 200;
constexpr size_t kLogOfATask = 20;

constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "
    "'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'";

// dump() throws where a text is not UTF-8, and texts come from workers.
std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// What shows an image or names one stays in no browser's cache.
constexpr char kNotKept[] = "no-store";

HttpResponse JsonOf(const json& value, int status = 200,
                    const char* caching = "private, no-cache") {
  HttpResponse response;
  response.status = status;
  response.type = "application/json";
  response.body = Dump(value);
  response.headers.emplace_back("Cache-Control", caching);
  return response;
}

HttpResponse Error(int status, const std::string& text) {
  return JsonOf({{"error", text}}, status);
}

HttpResponse Error(const absl::Status& status) {
  const int code = absl::IsNotFound(status)            ? 404
                   : absl::IsInvalidArgument(status)   ? 400
                   : absl::IsResourceExhausted(status) ? 429
                   : absl::IsUnavailable(status)       ? 503
                                                       : 500;
  return Error(code, std::string(status.message()));
}

HttpResponse Text(int status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.body = text + "\n";
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

// INVALID_ARGUMENT: it is not a number.
absl::StatusOr<size_t> NumberOr(const HttpRequest& request, const std::string& name,
                                size_t fallback) {
  const auto text = request.Query(name);
  if (!text) return fallback;
  uint64_t value = 0;
  if (!absl::SimpleAtoi(*text, &value) || value > 100'000'000) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, "=", *text, " is not a whole number that fits"));
  }
  return static_cast<size_t>(value);
}

json StagesOf(const v1::StudyStatus& status) {
  json stages = json::array();
  for (const v1::StageProgress& stage : status.stages()) {
    stages.push_back({{"stage", stage.stage()},
                      {"done", stage.done()},
                      {"total", stage.total()},
                      {"unit", stage.unit()},
                      {"computed", stage.computed()},
                      {"reused", stage.reused()}});
  }
  return stages;
}

// What the list and the study's page have in common.
json SummaryOf(const StudySnapshot& study) {
  const v1::StudyStatus& status = study.status;
  json out = {{"id", status.id()},
              {"phase", PhaseName(status)},
              {"submitted_ms", status.submitted_unix_ms()},
              {"workers", status.workers()},
              {"stages", StagesOf(status)},
              {"problems", status.problems_size()},
              {"failures", study.failures_total}};
  if (status.has_trials()) {
    const v1::TrialCounts& trials = status.trials();
    out["trials"] = {{"total", trials.total()},
                     {"training", trials.training()},
                     {"dropped", trials.dropped()},
                     {"failed", trials.failed()},
                     {"trained", trials.trained()}};
  }
  if (status.has_last_epoch()) {
    out["last_epoch"] = {{"epoch", status.last_epoch().epoch()},
                         {"validation_loss", Short(status.last_epoch().validation_loss())},
                         {"validation_accuracy", Short(status.last_epoch().validation_accuracy())}};
  }
  return out;
}

json DetailsOf(const StudySnapshot& study) {
  json out = SummaryOf(study);
  out["problems"] = json::array();
  for (const std::string& problem : study.status.problems()) out["problems"].push_back(problem);
  out["user"] = study.user;
  out["numerics_class"] = study.numerics_class;
  out["image_set"] = study.image_set.hex();
  out["images"] = study.spec().images().set();
  out["spec"] = ToYaml(study.spec());
  out["epochs"] = study.spec().training().epochs();
  out["given_model"] = study.spec().has_model();
  out["sweep"] = study.has_sweep();
  out["keys"] = study.settings->table().keys;
  out["replicas"] = study.replicas;
  out["metric"] = study.by_accuracy() ? "validation accuracy" : "validation loss";
  out["higher_is_better"] = study.by_accuracy();
  json running = json::array();
  for (const RunningTraining& training : study.running) {
    running.push_back({{"trial", training.trial},
                       {"epoch", Short(training.epoch)},
                       {"workers", training.workers}});
  }
  out["running"] = std::move(running);
  out["explanations"] = {{"images", study.explained.size()},
                         {"methods", study.methods},
                         {"done", study.explained_done},
                         {"total", study.explained.size() * study.methods.size()}};
  return out;
}

json ClusterOf(const Snapshot& snapshot, absl::Time now) {
  json workers = json::array();
  for (const WorkerSnapshot& worker : snapshot.workers) {
    const v1::WorkerStatus& status = worker.status;
    json busy = json::array();
    for (const float share : worker.busy) busy.push_back(Short(share));
    workers.push_back({{"worker", status.worker()},
                       {"host", status.host()},
                       {"state", status.state()},
                       {"doing", status.doing()},
                       {"threads", status.threads()},
                       {"completed", status.completed()},
                       {"numerics_class", status.numerics_class()},
                       {"busy_now", Short(worker.busy_now)},
                       {"busy", std::move(busy)}});
    if (worker.joined.has_value()) {
      workers.back()["joined"] = {{"token", worker.joined->token}, {"ms", worker.joined->issued_unix_s * 1000}};
    }
  }
  json alarms = json::array();
  for (const std::string& alarm : snapshot.cluster.alarms()) alarms.push_back(alarm);
  return {{"version", snapshot.cluster.version()},
          {"start", snapshot.cluster.incarnation()},
          {"age", Short(absl::ToDoubleSeconds(now - snapshot.taken))},
          {"free_bytes", snapshot.cluster.free_bytes()},
          {"disk_low", snapshot.cluster.disk_low()},
          {"alarms", std::move(alarms)},
          {"tasks_open", snapshot.tasks_open},
          {"completions", snapshot.counters.completions},
          {"losses", snapshot.counters.losses},
          {"busy_bucket_seconds", absl::ToInt64Seconds(kBusyBucket)},
          {"workers", std::move(workers)}};
}

json HappeningsAsJson(const std::vector<Happening>& happenings) {
  json out = json::array();
  for (const Happening& happening : happenings) {
    json one = {{"row", happening.row},
                {"ms", happening.unix_ms},
                {"kind", happening.kind},
                {"text", happening.text}};
    if (!happening.studies.empty()) one["studies"] = happening.studies;
    if (!happening.worker.empty()) one["worker"] = happening.worker;
    if (!happening.task.none()) one["task"] = happening.task.short_hex();
    out.push_back(std::move(one));
  }
  return out;
}

Happening HappeningOf(const WorkerEnd& end) {
  Happening happening;
  happening.unix_ms = static_cast<uint64_t>(absl::ToUnixMillis(end.told));
  happening.kind = "died";
  happening.worker = end.worker;
  happening.text = end.text;
  return happening;
}

void SortNewestFirst(std::vector<Happening>& happenings) {
  std::stable_sort(happenings.begin(), happenings.end(),
                   [](const Happening& a, const Happening& b) { return a.unix_ms > b.unix_ms; });
}

// With the last words of the processes that were lost with it: those that their successors told
// soon after.
std::vector<Happening> LogOf(const Digest& task, const Snapshot& snapshot,
                             const Chronicle& chronicle) {
  constexpr int64_t kToldAfter = 60'000;
  std::vector<Happening> log = chronicle.Of("", task, kLogOfATask);
  std::vector<Happening> more;
  for (const Happening& lost : log) {
    if (lost.kind != "lost") continue;
    for (const WorkerEnd& end : snapshot.ends) {
      const int64_t after = absl::ToUnixMillis(end.told) - static_cast<int64_t>(lost.unix_ms);
      if (!end.fresh || end.worker != lost.worker || after < 0 || after > kToldAfter) continue;
      more.push_back(HappeningOf(end));
      break;
    }
  }
  log.insert(log.end(), more.begin(), more.end());
  SortNewestFirst(log);
  return log;
}

json FailuresOf(const StudySnapshot& study, const Snapshot& snapshot, const Chronicle* chronicle) {
  json failures = json::array();
  for (const FailedTask& failed : study.failures) {
    json one = {{"task", failed.task.short_hex()},
                {"what", failed.what},
                {"cause", failed.cause},
                {"worker", failed.worker}};
    if (chronicle != nullptr)
      one["log"] = HappeningsAsJson(LogOf(failed.task, snapshot, *chronicle));
    failures.push_back(std::move(one));
  }
  return {{"failures", std::move(failures)}, {"total", study.failures_total}};
}

absl::StatusOr<TrialQuery> TrialQueryOf(const HttpRequest& request) {
  TrialQuery query;
  query.sort = request.Query("sort").value_or(query.sort);
  query.descending = request.Query("desc").value_or("") == "1";
  query.state = request.Query("state").value_or("");
  query.where = request.Query("where").value_or("");
  const auto offset = NumberOr(request, "offset", 0),
             limit = NumberOr(request, "limit", query.limit);
  if (!offset.ok()) return offset.status();
  if (!limit.ok()) return limit.status();
  query.offset = *offset;
  query.limit = *limit;
  return query;
}

HttpResponse Attachment(std::string body, const char* type, const std::string& id,
                        const char* ending) {
  HttpResponse response;
  response.type = type;
  response.body = std::move(body);
  // Ids are letters, digits, '-', '_', '.', '@': nothing to quote.
  response.headers.emplace_back(
      "Content-Disposition", absl::StrCat("attachment; filename=\"", id, "-trials.", ending, "\""));
  response.headers.emplace_back("Cache-Control", "private, no-cache");
  return response;
}

HttpResponse PageResponse(const Page& page) {
  HttpResponse response;
  response.type = page.type;
  response.fixed = page.bytes;
  response.headers.emplace_back("Cache-Control", "no-cache");
  return response;
}

}  // namespace

namespace {

// "" where there is none.
std::string BearerToken(const HttpRequest& request) {
  constexpr absl::string_view kPrefix = "Bearer ";
  const std::string& authorization = request.Header("authorization");
  if (!absl::StartsWithIgnoreCase(authorization, kPrefix)) return "";
  return authorization.substr(kPrefix.size());
}

bool LeadsUp(const std::string& path) {
  const std::vector<absl::string_view> parts = absl::StrSplit(path, absl::ByAnyChar("/\\"));
  return std::find(parts.begin(), parts.end(), "..") != parts.end();
}

// Of "/api/studies/ID/questions"; "": another path.
std::string StudyAskedAbout(const std::string& path) {
  absl::string_view rest = path;
  if (!absl::ConsumePrefix(&rest, "/api/studies/") || !absl::ConsumeSuffix(&rest, "/questions") ||
      absl::StrContains(rest, "/")) {
    return "";
  }
  return std::string(rest);
}

}  // namespace

bool Dashboard::IsUser(const HttpRequest& request) const {
  return sources_.users != nullptr && sources_.users->IsToken(BearerToken(request));
}

bool Dashboard::IsQuestion(const HttpRequest& request) const {
  return absl::StartsWith(request.path, "/api/questions/") || !StudyAskedAbout(request.path).empty();
}

std::variant<uint32_t, HttpResponse> Dashboard::LargerBody(const HttpRequest& request) const {
  if (request.method != "POST" || !IsQuestion(request) || sources_.questions == nullptr) return 0u;
  if (!IsUser(request)) return NeedsUser(request);
  return QuestionBoard::kMostFile;
}

HttpResponse Dashboard::NeedsUser(const HttpRequest& request) const {
  const bool shown = !request.Header("authorization").empty();
  NoteRefusal(request, shown ? "not the token of a user" : "no token was shown", shown);
  HttpResponse response = Error(
      401, "asking about an image needs the token of a user: `dermis dashboard --user` prints the "
           "address with it");
  response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"dermis\"");
  return response;
}

HttpResponse Dashboard::Ask(const HttpRequest& request, const std::string& id) const {
  const std::shared_ptr<const Snapshot> snapshot = sources_.snapshot();
  const auto study = snapshot == nullptr ? nullptr : snapshot->Find(id);
  if (study == nullptr) return Error(404, absl::StrCat("no study ", id));
  const auto manifest = sources_.explanations->Manifest(study->image_set);
  if (!manifest.ok()) return Error(manifest.status());
  const auto name = sources_.questions->Ask(id, *manifest, request.body);
  if (!name.ok()) return Error(name.status());
  return JsonOf({{"question", *name}}, 202, kNotKept);
}

HttpResponse Dashboard::Question(const HttpRequest& request) const {
  if (sources_.questions == nullptr || sources_.explanations == nullptr) {
    return Error(404, "nothing is here");
  }
  if (!IsUser(request)) return NeedsUser(request);
  if (const std::string study = StudyAskedAbout(request.path); !study.empty()) {
    if (request.method == "POST") return Ask(request, study);
    HttpResponse response = Error(405, "a picture is sent by POST");
    response.headers.emplace_back("Allow", "POST");
    return response;
  }
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(request.path.substr(absl::string_view("/api/questions/").size()), absl::MaxSplits('/', 1));
  if (request.method == "DELETE") {
    sources_.questions->Leave(parts.first);
    HttpResponse response;
    response.status = 204;
    return response;
  }
  if (request.method != "GET") return Error(405, "a question is read by GET and left by DELETE");
  if (parts.second == "image") {
    auto image = sources_.questions->Image(parts.first);
    if (!image.ok()) return Error(image.status());
    HttpResponse response;
    response.type = "image/bmp";
    response.body = *std::move(image);
    response.headers.emplace_back("Cache-Control", kNotKept);
    return response;
  }
  const auto after = NumberOr(request, "after", 0);
  if (!parts.second.empty() || !after.ok()) return Error(404, "nothing is here");
  const auto answer = sources_.questions->Read(parts.first, *after);
  return answer.ok() ? JsonOf(*answer, 200, kNotKept) : Error(answer.status());
}

bool Dashboard::SignedIn(const HttpRequest& request) const {
  if (sign_in_.IsToken(BearerToken(request)) || IsUser(request)) return true;
  for (const auto& part : absl::StrSplit(request.Header("cookie"), ';')) {
    const std::pair<std::string, std::string> cookie =
        absl::StrSplit(absl::StripAsciiWhitespace(part), absl::MaxSplits('=', 1));
    if (cookie.first == cookie_ && sign_in_.IsCookieValue(cookie.second, sources_.now()))
      return true;
  }
  return false;
}

void Dashboard::Refused(const std::string& client, const char* why) const {
  if (sources_.audit != nullptr) sources_.audit->Record({client, "", "the dashboard", "", why});
}

void Dashboard::NoteRefusal(const HttpRequest& request, const char* why, bool wrong_token) const {
  Refused(request.client, why);
  if (!wrong_token) return;
  absl::MutexLock lock(&mutex_);
  ++refusals_;
  const absl::Time now = sources_.now();
  if (now < noted_ + absl::Seconds(1)) return;
  DERMIS_LOG(kWarning, "dashboard: ", request.client, " showed a wrong token",
             refusals_ == 1 ? "" : absl::StrCat("; ", refusals_, " refusals since the last note"));
  noted_ = now;
  refusals_ = 0;
}

std::string Dashboard::SetCookie(const std::string& value, absl::Duration age) const {
  return absl::StrCat(cookie_, "=", value,
                      "; Path=/; HttpOnly; SameSite=Strict; Max-Age=", absl::ToInt64Seconds(age),
                      secure_ ? "; Secure" : "");
}

// POST signs in (the token is the body) or, with an empty body, out.
HttpResponse Dashboard::Session(const HttpRequest& request) const {
  HttpResponse response;
  const std::string token(absl::StripAsciiWhitespace(request.body));
  if (token.empty()) {
    response.status = 204;
    response.headers.emplace_back("Set-Cookie", SetCookie("", absl::ZeroDuration()));
  } else if (sign_in_.IsToken(token) || (sources_.users != nullptr && sources_.users->IsToken(token))) {
    response.status = 204;
    response.headers.emplace_back("Set-Cookie",
                                  SetCookie(sign_in_.CookieValue(sources_.now()), kSignedInFor));
  } else {
    NoteRefusal(request, "a wrong token", true);
    return Error(401, "this is not the token: `dermis dashboard` prints the address with it");
  }
  response.headers.emplace_back("Cache-Control", "no-store");
  return response;
}

HttpResponse Dashboard::ApiOfStudy(const HttpRequest& request, const Snapshot& snapshot,
                                   const std::string& id, const std::string& what) const {
  const std::shared_ptr<const StudySnapshot> found = snapshot.Find(id);
  if (found == nullptr) return Error(404, absl::StrCat("no study ", id));
  const StudySnapshot& study = *found;
  if (what == "failures") return JsonOf(FailuresOf(study, snapshot, sources_.chronicle));
  // All else is a function of the snapshot and the address: what a page has already is not sent
  // again.
  const std::string tag = absl::StrCat("\"", snapshot.cluster.incarnation(), ".", study.order,
                                       ".", study.version, ".", study.explained_done, "\"");
  HttpResponse response;
  if (request.Header("if-none-match") == tag) {
    response.status = 304;
  } else {
    response = ReadStudy(request, study, what);
  }
  if (response.status == 200 || response.status == 304) response.headers.emplace_back("ETag", tag);
  return response;
}

HttpResponse Dashboard::ReadStudy(const HttpRequest& request, const StudySnapshot& study,
                                  const std::string& what) const {
  const std::string& id = study.status.id();
  if (what.empty()) return JsonOf(DetailsOf(study));
  if (what == "trials") {
    const auto query = TrialQueryOf(request);
    if (!query.ok()) return Error(query.status());
    const auto page = TrialPage(study, *query);
    return page.ok() ? JsonOf(*page) : Error(page.status());
  }
  if (what == "trials.csv")
    return Attachment(TrialsAsCsv(study), "text/csv; charset=utf-8", id, "csv");
  if (what == "trials.jsonl")
    return Attachment(TrialsAsJsonLines(study), "application/jsonl", id, "jsonl");
  if (what == "parallel") return JsonOf(ParallelCoordinates(study));
  if (what == "curves") {
    std::vector<uint32_t> trials;
    for (const auto& text :
         absl::StrSplit(request.Query("trials").value_or(""), ',', absl::SkipEmpty())) {
      uint32_t trial = 0;
      if (!absl::SimpleAtoi(text, &trial) || trials.size() >= 100)
        return Error(400, "trials=1,2,3: at most 100 numbers");
      trials.push_back(trial);
    }
    return JsonOf(CurvesOf(study, std::move(trials)));
  }
  if (what == "importance") {
    const ImportanceOfSettings importance = ImportanceIn(study);
    json keys = json::array();
    for (const Importance& key : importance.keys) {
      keys.push_back({{"key", key.key},
                      {"share", Short(key.share)},
                      {"correlation", key.correlation ? Short(*key.correlation) : json()}});
    }
    return JsonOf(
        {{"keys", std::move(keys)}, {"epochs", importance.epochs}, {"trials", importance.trials}});
  }
  if (sources_.explanations == nullptr) return Error(404, "nothing is here");
  const std::vector<std::string> parts = absl::StrSplit(what, '/');
  if (what == "explanations") {
    const auto offset = NumberOr(request, "offset", 0), limit = NumberOr(request, "limit", 12);
    if (!offset.ok() || !limit.ok()) return Error(400, "offset and limit are whole numbers");
    const auto manifest = sources_.explanations->Manifest(study.image_set);
    json rows = json::array();
    for (size_t i = *offset;
         i < std::min(study.explained.size(), *offset + std::min(*limit, kMostOfAPage)); ++i) {
      const ExplainedRow& row = study.explained[i];
      json done = json::array();
      for (const ExplainedBy& method : row.methods) done.push_back(method.done);
      json one = {{"row", i}, {"image", row.image}, {"why", row.why}, {"done", std::move(done)}};
      if (manifest.ok() && row.image < static_cast<uint32_t>((*manifest)->images_size())) {
        one["name"] = (*manifest)->images(static_cast<int>(row.image)).name();
      }
      rows.push_back(std::move(one));
    }
    return JsonOf(
        {{"methods", study.methods}, {"total", study.explained.size()}, {"rows", std::move(rows)}},
        200, kNotKept);
  }
  uint32_t row = 0, method = 0;
  if (parts.size() == 3 && parts[0] == "explanations" && absl::SimpleAtoi(parts[1], &row) &&
      absl::SimpleAtoi(parts[2], &method) && row < study.explained.size() &&
      method < study.methods.size()) {
    const auto maps = sources_.explanations->Maps(study.explained[row].methods[method]);
    if (!maps.ok()) return Error(maps.status());
    return JsonOf(*maps, 200, kNotKept);
  }
  if (parts.size() == 2 && parts[0] == "images" && absl::SimpleAtoi(parts[1], &row)) {
    auto image = sources_.explanations->Image(study.image_set, row);
    if (!image.ok()) return Error(image.status());
    HttpResponse response;
    response.type = "image/bmp";
    response.body = *std::move(image);
    response.headers.emplace_back("Cache-Control", kNotKept);
    return response;
  }
  return Error(404, "nothing is here");
}

HttpResponse Dashboard::Api(const HttpRequest& request, const Snapshot& snapshot) const {
  const std::string path = request.path.substr(5);  // After "/api/".
  if (path == "cluster") return JsonOf(ClusterOf(snapshot, sources_.now()));
  if (path == "history") {
    const auto limit = NumberOr(request, "limit", 100);
    if (!limit.ok()) return Error(limit.status());
    const size_t most = std::min<size_t>(*limit, 1000);
    const std::string of = request.Query("study").value_or("");
    std::vector<Happening> happenings;
    if (sources_.chronicle != nullptr) happenings = sources_.chronicle->Of(of, Digest(), most);
    for (size_t i = 0; i < snapshot.ends.size() && of.empty(); ++i)
      happenings.push_back(HappeningOf(snapshot.ends[i]));
    SortNewestFirst(happenings);
    if (happenings.size() > most) happenings.resize(most);
    return JsonOf({{"happenings", HappeningsAsJson(happenings)}});
  }
  if (path == "studies") {
    const auto offset = NumberOr(request, "offset", 0), limit = NumberOr(request, "limit", 50);
    if (!offset.ok() || !limit.ok()) return Error(400, "offset and limit are whole numbers");
    json studies = json::array();
    const size_t total = snapshot.studies.size(),
                 end = std::min(total, *offset + std::min(*limit, kMostOfAPage));
    // The newest first.
    for (size_t i = *offset; i < end; ++i)
      studies.push_back(SummaryOf(*snapshot.studies[total - 1 - i]));
    return JsonOf({{"studies", std::move(studies)}, {"total", total}});
  }
  const std::pair<std::string, std::string> parts = absl::StrSplit(path, absl::MaxSplits('/', 1));
  if (parts.first != "studies" || parts.second.empty()) return Error(404, "nothing is here");
  const std::pair<std::string, std::string> study =
      absl::StrSplit(parts.second, absl::MaxSplits('/', 1));
  return ApiOfStudy(request, snapshot, study.first, study.second);
}

HttpResponse Dashboard::Answer(const HttpRequest& request) const {
  HttpResponse response = Route(request);
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const char*>>{
           {"Content-Security-Policy", kPolicy},
           {"X-Content-Type-Options", "nosniff"},
           {"Referrer-Policy", "no-referrer"},
           {"Cross-Origin-Opener-Policy", "same-origin"},
           {"Cross-Origin-Resource-Policy", "same-origin"}}) {
    response.headers.emplace_back(name, value);
  }
  return response;
}

HttpResponse Dashboard::Route(const HttpRequest& request) const {
  // No browser sends it, and nothing here is a file: whoever does looks for one.
  if (LeadsUp(request.path)) {
    Refused(request.client, "a path with '..'");
    return Error(400, "a path with '..' leads nowhere here");
  }
  const bool post = request.method == "POST";
  if (request.path == "/api/session" && post) return Session(request);
  if (IsQuestion(request)) return Question(request);
  if (request.method != "GET" && request.method != "HEAD") {
    HttpResponse response = Error(405, "the dashboard is for reading");
    response.headers.emplace_back("Allow", "GET, HEAD");
    return response;
  }
  if (request.path == "/healthz") return Text(200, "ok");
  const std::shared_ptr<const Snapshot> snapshot = sources_.snapshot();
  const absl::Time now = sources_.now();
  if (request.path == "/readyz") {
    if (snapshot != nullptr && now - snapshot->taken < kFresh) return Text(200, "ready");
    return Text(503, "the coordinator's core does not answer");
  }
  const std::string path = request.path == "/" ? "/index.html" : request.path;
  if (const Page* page = FindPage(path)) return PageResponse(*page);
  const bool api = absl::StartsWith(request.path, "/api/");
  if (!api && request.path != "/metrics") return Error(404, "nothing is here");
  if (!SignedIn(request)) {
    const bool shown = !request.Header("authorization").empty();
    const bool cookie = absl::StrContains(request.Header("cookie"), cookie_ + "=");
    NoteRefusal(request,
                shown    ? "a wrong token"
                : cookie ? "a cookie that has expired or is another's"
                         : "no token was shown",
                shown);
    HttpResponse response =
        Error(401, "sign in: `dermis dashboard` prints the address with the token");
    response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"dermis\"");
    return response;
  }
  if (snapshot == nullptr) return Error(503, "the coordinator is starting");
  if (api) return Api(request, *snapshot);
  HttpResponse response = Text(200, "");
  response.type = kMetricsType;
  response.body = MetricsOf(*snapshot, now);
  return response;
}

}  // namespace dermis
