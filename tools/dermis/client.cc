#include "tools/dermis/client.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/nearest_word.h"
#include "common/status_macros.h"
#include "common/tls.h"
#include "tools/dermis/connect.h"

namespace dermis {

std::string DefaultClusterDirectory() {
  if (const char* chosen = std::getenv("DERMIS_CLUSTER")) return chosen;
  const char* home = std::getenv("HOME");
  return absl::StrCat(home == nullptr ? "." : home, "/.local/state/dermis");
}

void AddClusterOption(CLI::App& command, std::string& directory) {
  directory = DefaultClusterDirectory();
  command.add_option("--cluster", directory, "The cluster's directory (environment: DERMIS_CLUSTER)")
      ->capture_default_str();
}

void SetDeadline(grpc::ClientContext& context, int seconds) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

namespace {

// A handshake may take seconds on a busy machine; a port that nobody listens on is known at once, but a coordinator that
// is starting again deserves a moment.
bool Connected(grpc::Channel& channel) {
  using std::chrono::system_clock;
  const auto start = system_clock::now();
  auto until = start + std::chrono::seconds(10);
  while (true) {
    const grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return true;
    const auto now = system_clock::now();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) until = std::min(until, now + std::chrono::seconds(2));
    if (now >= until) return false;
    channel.WaitForStateChange(state, until);
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToCluster(const std::string& cluster_directory) {
  std::ifstream in(absl::StrCat(cluster_directory, "/store/address"));
  std::string address;
  if (!(in >> address)) {
    return absl::UnavailableError(
        absl::StrCat("no cluster runs in ", cluster_directory,
                     ". Start one with `dermis cluster start`, or name another with --cluster"));
  }
  const std::string certs = cluster_directory + "/certs";
  std::error_code ignored;
  const bool owner = std::filesystem::exists(certs + "/admin.crt", ignored);
  ASSIGN_OR_RETURN(const Identity identity, LoadIdentity(certs, owner ? "admin" : "user"));
  std::shared_ptr<grpc::Channel> channel = MakeChannel(address, ClientCredentials(identity), kCoordinatorName);
  if (!Connected(*channel)) {
    return absl::UnavailableError(absl::StrCat(
        "the coordinator of ", cluster_directory, " (", address, ") does not answer, or is another cluster's: "
        "`dermis cluster start --cluster ", cluster_directory, "` starts it again where it does not run; its log is ",
        cluster_directory, "/logs/coordinator.log"));
  }
  return channel;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const std::string& cluster_directory) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, ConnectToCluster(cluster_directory));
  return std::unique_ptr<Client>(new Client(std::move(channel)));
}

absl::StatusOr<v1::ClusterStatusResponse> Client::ClusterStatus() {
  grpc::ClientContext context;
  SetDeadline(context, 10);
  v1::ClusterStatusResponse response;
  const grpc::Status status = studies_->ClusterStatus(&context, {}, &response);
  if (!status.ok()) return ToAbsl(status, "cluster status");
  return response;
}

absl::StatusOr<v1::ListResponse> Client::List() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListResponse response;
  const grpc::Status status = studies_->List(&context, {}, &response);
  if (!status.ok()) return ToAbsl(status, "studies");
  return response;
}

absl::StatusOr<std::vector<v1::HistoryEvent>> Client::History(const std::string& id) {
  std::vector<v1::HistoryEvent> events;
  v1::HistoryRequest request;
  request.set_id(id);
  do {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::HistoryResponse page;
    const grpc::Status status = studies_->History(&context, request, &page);
    if (!status.ok()) return StudyError(*this, id, status);
    events.insert(events.end(), page.events().begin(), page.events().end());
    request.set_after_row(page.next_row());
  } while (request.after_row() > 0);
  return events;
}

absl::Status NoStudy(const std::string& id, const std::vector<std::string>& names) {
  constexpr size_t kListed = 10;
  const std::string nearest = NearestWord(id, names, std::max<size_t>(1, id.size() / 3));
  std::string text = absl::StrCat("no study '", id, "'");
  if (!nearest.empty()) absl::StrAppend(&text, "; did you mean '", nearest, "'?");
  if (names.empty()) return absl::NotFoundError(text + "; there is none");
  absl::StrAppend(
      &text, nearest.empty() ? "; " : " ", "(there are: ",
      absl::StrJoin(names.begin(), names.begin() + std::min(names.size(), kListed), ", "),
      names.size() > kListed ? absl::StrCat(" and ", names.size() - kListed, " more") : "", ")");
  return absl::NotFoundError(text);
}

absl::Status StudyError(Client& client, const std::string& id, const grpc::Status& status) {
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) {
    if (const auto list = client.List(); list.ok()) {
      std::vector<std::string> names;
      for (const v1::StudyStatus& study : list->studies()) names.push_back(study.id());
      // Else something of the study is not there.
      if (std::find(names.begin(), names.end(), id) == names.end()) return NoStudy(id, names);
    }
  }
  return ToAbsl(status, absl::StrCat("study ", id));
}

absl::StatusOr<v1::StudyResults> Client::Results(const std::string& id) {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StudyRequest request;
  request.set_id(id);
  v1::StudyResults results;
  const grpc::Status status = studies_->Results(&context, request, &results);
  if (!status.ok()) return StudyError(*this, id, status);
  return results;
}

absl::StatusOr<StudyTrials> Client::Trials(const std::string& id) {
  StudyTrials found;
  found.study = id;
  v1::TrialsRequest request;
  request.set_id(id);
  do {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::TrialsResponse page;
    const grpc::Status status = studies_->Trials(&context, request, &page);
    if (!status.ok()) return ToAbsl(status, absl::StrCat("study ", id));
    found.trials.insert(found.trials.end(), page.trials().begin(), page.trials().end());
    found.submitted_unix_ms = page.submitted_unix_ms();
    if (page.metric() != v1::SELECTION_METRIC_UNSPECIFIED) {
      constexpr size_t kPrefix = sizeof("SELECTION_METRIC_") - 1;
      found.metric = absl::AsciiStrToLower(v1::SelectionMetric_Name(page.metric()).substr(kPrefix));
    }
    request.set_first(page.next());
  } while (request.first() > 0);
  return found;
}

absl::StatusOr<std::unique_ptr<ImageSet>> Client::OpenImages(const std::string& manifest_digest) {
  ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(manifest_digest));
  ASSIGN_OR_RETURN(const std::string blob, blobs_.Get(digest));
  v1::ImageSetManifest manifest;
  if (!manifest.ParseFromString(blob)) {
    return absl::DataLossError(absl::StrCat("image set ", digest.short_hex(), " is no manifest"));
  }
  return ImageSet::OpenBlobs(std::move(manifest), [this](const Digest& chunk) { return blobs_.Get(chunk); });
}

absl::StatusOr<v1::Payload> Client::FetchPayload(const v1::TaskResult& result) {
  std::string bytes = result.payload();
  if (!result.payload_blob().empty()) {
    ASSIGN_OR_RETURN(const Digest digest, Digest::FromBytes(result.payload_blob()));
    ASSIGN_OR_RETURN(bytes, blobs_.Get(digest));
  }
  v1::Payload payload;
  if (bytes.empty() || !payload.ParseFromString(bytes)) {
    return absl::DataLossError("a stored result cannot be read");
  }
  return payload;
}

}  // namespace dermis
