// fuzz_seeds CORPUS: writes the first inputs of the targets whose inputs are not written by hand.
// The files are in the repository; made again where messages have changed, as `fuzz_seeds --check
// CORPUS`, a test, says.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "common/certificates.h"
#include "common/files.h"
#include "common/image_set.h"
#include "common/join_token.h"
#include "common/log.h"
#include "common/safetensors.h"
#include "common/shuffle.h"
#include "common/spec_yaml.h"
#include "coordinator/core.h"
#include "dermis/v1/audit.pb.h"
#include "dermis/v1/blobs.pb.h"
#include "dermis/v1/join.pb.h"
#include "dermis/v1/peer.pb.h"
#include "tests/fuzz/calls.h"
#include "tests/fuzz/requests.h"
#include "tests/simulation/fakes.h"
#include "tools/ingest/csv.h"
#include "worker/collective/peer_link.h"

namespace dermis {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string SmallTensors() {
  const std::string data(24, '\1');
  return SerializeSafetensors({{"bias", {"F64", {1}, std::string_view(data).substr(0, 8)}},
                               {"weight", {"F32", {2, 3}, data}}},
                              {{"model", "seed_cnn"}});
}

std::string SmallSet(const fs::path& scratch) {
  std::vector<PackedImage> images(2);
  for (size_t i = 0; i < images.size(); ++i) {
    images[i].entry.set_name(absl::StrCat("image ", i));
    images[i].entry.set_label(static_cast<uint32_t>(i));
    images[i].pixels.assign(8 * 8 * 3, static_cast<char>(i));
    images[i].mask.assign(8 * 8, '\1');
  }
  v1::ImageSetManifest header;
  header.set_format(1);
  header.set_name("small");
  header.set_height(8);
  header.set_width(8);
  header.add_classes("benign");
  header.add_classes("malignant");
  if (!WriteImageSet(scratch, header, std::move(images)).ok()) return "";
  const auto set = ImageSet::OpenFile(scratch);
  fs::remove(scratch);
  if (!set.ok()) return "";
  const std::string& manifest = (*set)->manifest_blob();
  std::string input = {static_cast<char>(manifest.size() & 0xff),
                       static_cast<char>(manifest.size() >> 8)};
  input += manifest;
  const auto chunk = (*set)->ChunkBytes(*Digest::FromBytes((*set)->manifest().chunks(0).pixels()));
  return input + std::string(*chunk);
}

// A study from its submission to its end, as the coordinator hears of it.
class Story {
 public:
  Story() {
    image_set_ = *Digest::FromBytes(Blob(manifest_->SerializeAsString()));
    Blob("pixels");
    (void)core_.Open();
  }

  std::string Tell() {
    constexpr char kExplanation[] =
        "explanation:\n"
        "  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}\n"
        "  methods: [{lime: {samples: 64}}, grad_cam]\n";
    const v1::StudySpec spec = *FakeSpec("a", 1, 0, kExplanation);
    v1::SubmitRequest request;
    *request.mutable_spec() = spec;
    request.set_image_set(image_set_.bytes());
    AddCall(Call::kSubmit, request.SerializeAsString(), input_);
    Submission submission;
    submission.spec = spec;
    submission.image_set = image_set_;
    submission.manifest = manifest_;
    core_.Submit(submission, [](const auto&) {});
    v1::Register hello;
    hello.set_worker("w1");
    hello.set_incarnation("1");
    hello.set_numerics_class("fake/1");
    hello.set_software_version(kVersion);
    AddCall(Call::kRegister, hello.SerializeAsString(), input_);
    core_.WorkerConnected(1, hello);
    const v1::Recipe recipe = RecipeOf(spec, image_set_);
    split_ = *MakeSplit(*manifest_, recipe.images().split(), recipe.images().split_seed());
    per_epoch_ = StepsPerEpoch(split_.training.size(), recipe.batch_size());
    for (int round = 0; round < 60; ++round) {
      (void)core_.Flush();
      if (core_.Status("a")->phase() != v1::StudyStatus::RUNNING) break;
      Work();
    }
    v1::StudyRequest look;
    look.set_id("a");
    AddCall(Call::kLook, look.SerializeAsString(), input_);
    v1::HistoryRequest history;
    history.set_id("a");
    AddCall(Call::kHistory, history.SerializeAsString(), input_);
    v1::DeleteRequest deletion;
    deletion.set_id("a");
    AddCall(Call::kDelete, deletion.SerializeAsString(), input_);
    return input_;
  }
  // Why it did not end.
  std::string problem() const {
    return core_.Status("a")->phase() == v1::StudyStatus::DONE
               ? ""
               : absl::StrCat(core_.Status("a")->DebugString(), core_.DescribeWork());
  }

 private:
  std::string Blob(const std::string& bytes) {
    AddCall(Call::kBlob, bytes, input_);
    return blobs_.Put(bytes);
  }

  void Complete(const v1::TaskSpec& task, const v1::Payload& payload) {
    v1::CompleteTasksRequest request;
    *request.add_completions() = FakeCompletion(task, payload, "w1");
    AddCall(Call::kComplete, request.SerializeAsString(), input_);
    core_.CompleteTasks({CheckCompletion(request.completions(0), blobs_)}, [](const auto&) {});
  }

  void Train(const v1::GangSeat& seat) {
    const uint64_t step = seat.goal().max_epochs() * per_epoch_;
    v1::Payload payload;
    *payload.mutable_train() = FakeState(seat.recipe(), "fake/1", step, per_epoch_, blobs_);
    for (const auto& blob :
         {payload.train().state(), payload.train().last_model(), payload.train().best_model()}) {
      if (!blob.empty()) AddCall(Call::kBlob, *blobs_.Read(*Digest::FromBytes(blob)), input_);
    }
    Complete(TrainTaskOf(seat.recipe(), step, "fake/1"), payload);
  }

  void Work() {
    AddCall(Call::kPass, "", input_);
    clock_.Advance(absl::Seconds(1));
    core_.Tick();
    (void)core_.Flush();
    for (const auto& [connection, directives] : std::exchange(outbox_.sent, {})) {
      for (const v1::Directive& directive : directives) {
        if (!directive.has_assign()) continue;
        for (const v1::TaskSpec& task : directive.assign().bundle().tasks()) {
          Complete(task, FakePayload(task, split_));
        }
        if (directive.assign().has_gang()) Train(directive.assign().gang());
        v1::AttemptEnded ended;
        ended.set_assignment(directive.assign().assignment());
        ended.set_outcome(v1::OUTCOME_DONE);
        AddCall(Call::kEnded, ended.SerializeAsString(), input_);
        core_.AttemptEnded(connection, ended);
      }
    }
    AddCall(Call::kBeat, v1::Beat().SerializeAsString(), input_);
    core_.WorkerBeat(1, v1::Beat());
  }

  std::string input_;
  FakeClock clock_;
  FakeDisk disk_;
  MemoryJournal journal_{disk_};
  FakeBlobs blobs_;
  RecordingOutbox outbox_;
  Core core_{clock_, journal_, outbox_, blobs_, Core::Options()};
  std::shared_ptr<const v1::ImageSetManifest> manifest_ = FakeManifest(40);
  Digest image_set_;
  Split split_;
  uint64_t per_epoch_ = 0;
};

// A worker joins and is put out, and people look: each call of the services once.
std::string EachServiceCall(const std::string& request) {
  std::string input;
  const auto add = [&](ServiceCall call, const auto& message) { AddCall(call, message.SerializeAsString(), input); };
  const std::string secret(kSecretBytes, 's');
  v1::CreateTokenRequest token;
  token.set_secret_hash(Sha256Of(secret).bytes());
  token.set_ttl_s(3600);
  token.set_uses(2);
  token.set_group("spot");
  add(ServiceCall::kCreateToken, token);
  v1::SignRequest sign;
  sign.set_secret(secret);
  sign.set_name("gpu1-0");
  sign.set_request(request);
  add(ServiceCall::kSign, sign);
  v1::RenewRequest renew;
  renew.set_request(request);
  add(ServiceCall::kRenew, renew);
  add(ServiceCall::kListJoins, v1::ListJoinsRequest());
  v1::RevokeRequest revoke;
  revoke.set_certificate("gpu1-0");
  add(ServiceCall::kRevoke, revoke);
  v1::RevokeTokenRequest end;
  end.set_token("spot");
  add(ServiceCall::kRevokeToken, end);
  v1::HasRequest has;
  has.add_digests(Sha256Of("a blob").bytes());
  add(ServiceCall::kHas, has);
  v1::HoldingRequest holding;
  holding.set_digest(Sha256Of("a blob").bytes());
  holding.mutable_me()->set_worker("gpu1-0");
  holding.set_held(true);
  add(ServiceCall::kHolding, holding);
  v1::FetchResultsRequest fetch;
  fetch.add_tasks(Sha256Of("a task").bytes());
  add(ServiceCall::kFetch, fetch);
  add(ServiceCall::kAuditHead, v1::AuditHeadRequest());
  add(ServiceCall::kAuditRead, v1::AuditReadRequest());
  return input;
}

// A blob in two pieces, which is read again, also by a worker, and one that is not what was said; and who watches a study.
std::string EachStream() {
  std::string input;
  const auto add = [&](ServiceCall call, const auto& message) { AddCall(call, message.SerializeAsString(), input); };
  const std::string blob = "a blob in two pieces";
  v1::PutRequest piece;
  piece.set_digest(Sha256Of(blob).bytes());
  piece.set_size(blob.size());
  piece.set_data(blob.substr(0, 7));
  add(ServiceCall::kPut, piece);
  v1::PutRequest rest;
  rest.set_data(blob.substr(7));
  add(ServiceCall::kPut, rest);
  AddCall(ServiceCall::kPutEnd, "", input);
  v1::GetRequest get;
  add(ServiceCall::kGet, get);
  get.set_digest(Sha256Of(blob).bytes());
  get.mutable_me()->set_worker("gpu1-0");
  get.add_avoid("gpu2-0");
  add(ServiceCall::kGet, get);
  add(ServiceCall::kPut, piece);
  add(ServiceCall::kPut, piece);
  AddCall(ServiceCall::kPutEnd, "", input);
  v1::WatchRequest watch;
  watch.set_id("s");
  add(ServiceCall::kWatch, watch);
  watch.set_id("nobody");
  add(ServiceCall::kWatch, watch);
  return input;
}

// A worker comes, beats, ends something and goes.
std::string AWorkersStream() {
  std::string input;
  const auto add = [&](const v1::WorkerMessage& message) {
    AddCall(ServiceCall::kAttend, message.SerializeAsString(), input);
  };
  v1::WatchRequest watch;  // With it there is a study.
  watch.set_id("s");
  AddCall(ServiceCall::kWatch, watch.SerializeAsString(), input);
  v1::WorkerMessage hello, beat, ended;
  hello.mutable_register_()->set_worker("w1");
  hello.mutable_register_()->set_incarnation("1");
  hello.mutable_register_()->set_numerics_class("fake/1");
  hello.mutable_register_()->set_software_version(kVersion);
  hello.mutable_register_()->set_threads(1);
  add(hello);
  beat.mutable_beat();
  add(beat);
  ended.mutable_ended()->set_outcome(v1::OUTCOME_DONE);
  add(ended);
  AddCall(ServiceCall::kAttendEnd, "", input);
  return input;
}

std::string FrameOf(const FrameHeader& header, const std::string& payload) {
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
}

// Two ranks that do their part: no memory that can be shared, one sum, one gathering. And who asks
// for a blob.
std::string AGang() {
  std::string input;
  for (const uint32_t rank : {1u, 2u}) {
    const auto add = [&](FrameHeader header, const std::string& payload) {
      AddCall(rank == 1 ? PeerCall::kFirst : PeerCall::kSecond, FrameOf(header, payload), input);
    };
    v1::PeerHello hello;
    *hello.mutable_generation() = PeerSeat().generation();
    hello.set_from_rank(rank);
    FrameHeader header{};
    header.kind = FrameKind::kHello;
    add(header, hello.SerializeAsString());
    header.kind = FrameKind::kBeat;
    add(header, "");
    const auto gather = [&](uint64_t sequence, const std::string& bytes) {
      FrameHeader piece{};
      piece.kind = FrameKind::kGather;
      piece.flags = 1;
      piece.sequence = sequence;
      piece.total = bytes.size();
      add(piece, bytes);
    };
    gather(1, "");
    gather(2, "000");
    header.sequence = 3;
    header.total = 40;
    header.kind = FrameKind::kReduce;
    add(header, std::string(16 * sizeof(float), '\0'));  // Of rank 0's slice.
    header.kind = FrameKind::kResult;
    add(header, std::string((rank == 1 ? 16 : 8) * sizeof(float), '\0'));
    gather(4, rank == 1 ? "yours" : "");
  }
  v1::GetRequest get;
  get.set_digest(Sha256Of("a blob").bytes());
  AddCall(PeerCall::kGet, get.SerializeAsString(), input);
  return input;
}

// One who gives up.
std::string AnAbort() {
  std::string input;
  v1::PeerHello hello;
  *hello.mutable_generation() = PeerSeat().generation();
  hello.set_from_rank(2);
  FrameHeader header{};
  header.kind = FrameKind::kHello;
  AddCall(PeerCall::kFirst, FrameOf(header, hello.SerializeAsString()), input);
  header.kind = FrameKind::kAbort;
  header.part = 2;
  AddCall(PeerCall::kFirst, FrameOf(header, "out of memory"), input);
  return input;
}

// What a browser and a program ask of the dashboard, with the status that each gets: who is signed
// in sees something.
std::vector<std::pair<std::string, std::string>> Requests() {
  const FuzzedDashboard dashboard;
  const std::string bearer = absl::StrCat("Authorization: Bearer ", dashboard.Token(), "\r\n"),
                    user = absl::StrCat("Authorization: Bearer ", dashboard.UsersToken(), "\r\n"),
                    cookie = absl::StrCat("Cookie: theme=dark; ", dashboard.Cookie(), "\r\n");
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&](const std::string& name, const std::string& line, const std::string& headers,
                       const std::string& body, int status) {
    const std::string text =
        absl::StrCat(line, " HTTP/1.1\r\nHost: localhost\r\n", headers, "\r\n", body);
    const HttpResponse response = dashboard.Take(RequestOf(text));
    if (response.status != status) {
      std::fprintf(stderr, "the request %s gets %d: %s\n", name.c_str(), response.status,
                   response.body.c_str());
      std::exit(1);
    }
    out.emplace_back(name, text);
  };
  add("trials",
      "GET "
      "/api/studies/a/"
      "trials?sort=score&desc=1&state=trained&where=clip_norm%3A0.01%3A1&offset=5&limit=10",
      bearer, "", 200);
  add("curves", "GET /api/studies/a/curves?trials=1,2,29", cookie, "", 200);
  add("explanations", "GET /api/studies/a/explanations?offset=1&limit=2", cookie, "", 200);
  add("image", "GET /api/studies/%61/images/7", bearer, "", 200);
  add("studies", "GET /api/studies?offset=0&limit=50", user, "", 200);
  add("history", "GET /api/history?study=a&limit=10", cookie, "", 200);
  add("csv", "HEAD /api/studies/a/trials.csv", cookie + "If-None-Match: \".1.7.0\"\r\n", "", 200);
  add("sign_in", "POST /api/session", "", dashboard.Token() + "\n", 204);
  add("question", "POST /api/studies/a/questions", user, "a picture", 503);  // There is no decoder.
  add("answer", "GET /api/questions/0123456789abcdef?after=3", user, "", 404);
  add("leave", "DELETE /api/questions/0123456789abcdef", user, "", 204);
  add("leads_up", "GET /api/%2e%2e/dashboard-token", bearer, "", 400);
  return out;
}

// The files of the corpus whose bytes are made here. `request`: a certificate signing request.
std::map<std::string, std::string> Seeds(const std::string& request) {
  std::map<std::string, std::string> seeds = {
      {"safetensors/small", SmallTensors()},
      {"image_set/small", SmallSet(fs::temp_directory_path() /
                                   absl::StrCat("dermis-fuzz-seeds-", getpid(), ".images"))},
      {"signing_request/p256", request},
      {"services/each_once", EachServiceCall(request)},
      {"services/streams", EachStream()},
      {"services/a_worker", AWorkersStream()},
      {"peer/a_gang", AGang()},
      {"peer/an_abort", AnAbort()},
      {"join_token/good", FormatJoinToken({"gpu1.lab:7433", Sha256Of("a key"), "12ab34cd",
                                           std::string(kSecretBytes, 's')}) +
                              "\n"}};
  for (const auto& [name, text] : Requests()) seeds["dashboard/" + name] = text;
  Story story;
  seeds["calls/a_study"] = story.Tell();
  if (const std::string problem = story.problem(); !problem.empty()) {
    std::fprintf(stderr, "the study did not end: %s\n", problem.c_str());
    std::exit(1);
  }
  return seeds;
}

// Whether the corpus is still what it was made to be. A file that is not is none of its format any
// more: what is found from it is a refusal at its first byte.
bool Check(const fs::path& corpus) {
  bool good = true;
  const auto wrong = [&](const std::string& name, const std::string& why) {
    std::fprintf(stderr, "%s: %s\n", (corpus / name).c_str(), why.c_str());
    good = false;
  };
  const auto read = [&](const fs::path& name) {
    return ReadFile((corpus / name).string()).value_or("");
  };
  const std::string request = read("signing_request/p256");
  if (const auto key = CheckSigningRequest(request); !key.ok())
    wrong("signing_request/p256", std::string(key.status().message()));
  for (const auto& [name, bytes] : Seeds(request)) {
    if (read(name) != bytes)
      wrong(name, "is not what its format is now: make it again (fuzz_seeds tests/fuzz/corpus)");
  }
  // Written by hand, to be taken; others are what libFuzzer found.
  for (const char* study : {"checks", "demo", "seed", "sweep"}) {
    const fs::path name = fs::path("study_yaml") / study;
    const auto spec = ParseStudyYaml(read(name), name.string());
    const auto resolved = spec.ok() ? ResolveSpec(*spec) : spec;
    if (!resolved.ok()) wrong(name, std::string(resolved.status().message()));
  }
  for (const char* name : {"crlf", "quoted"}) {
    const auto table = ParseCsv(read(fs::path("csv") / name));
    if (!table.ok() || table->rows.empty())
      wrong(absl::StrCat("csv/", name), "is no table with a row any more");
  }
  return good;
}

}  // namespace
}  // namespace dermis

int main(int argc, char** argv) {
  dermis::SetLogLevel(static_cast<dermis::LogLevel>(4));
  if (argc == 3 && std::strcmp(argv[1], "--check") == 0) return dermis::Check(argv[2]) ? 0 : 1;
  if (argc != 2) {
    std::fprintf(stderr, "fuzz_seeds [--check] CORPUS\n");
    return 2;
  }
  // Its key is another one each time.
  for (const auto& [name, bytes] : dermis::Seeds(*dermis::MakeSigningRequest(*dermis::NewKey()))) {
    dermis::Write(std::filesystem::path(argv[1]) / name, bytes);
  }
}
