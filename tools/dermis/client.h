// A user's connection to a cluster.
#ifndef DERMIS_TOOLS_DERMIS_CLIENT_H_
#define DERMIS_TOOLS_DERMIS_CLIENT_H_

#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/blob_client.h"
#include "common/image_set.h"
#include "dermis/v1/studies.grpc.pb.h"
#include "tools/dermis/trial_files.h"

namespace dermis {

// Where a cluster of this machine lives: certificates, store, logs. `--cluster`, else $DERMIS_CLUSTER, else
// ~/.local/state/dermis.
std::string DefaultClusterDirectory();
void AddClusterOption(CLI::App& command, std::string& directory);

class Client {
 public:
  // Reads the coordinator's address (directory/store/address) and the user's certificate. Errors say what to do.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& cluster_directory);

  v1::Studies::Stub& studies() { return *studies_; }
  BlobClient& blobs() { return blobs_; }

  absl::StatusOr<v1::ClusterStatusResponse> ClusterStatus();
  absl::StatusOr<v1::ListResponse> List();
  // All of it, oldest first.
  absl::StatusOr<std::vector<v1::HistoryEvent>> History(const std::string& id);
  absl::StatusOr<v1::StudyResults> Results(const std::string& id);
  // All of them, with the epochs of their trainings.
  absl::StatusOr<StudyTrials> Trials(const std::string& id);
  // The image set of a study, its chunks fetched on first use.
  absl::StatusOr<std::unique_ptr<ImageSet>> OpenImages(const std::string& manifest_digest);
  // A result's payload, fetched where it is a blob.
  absl::StatusOr<v1::Payload> FetchPayload(const v1::TaskResult& result);

 private:
  explicit Client(std::shared_ptr<grpc::Channel> channel)
      : studies_(v1::Studies::NewStub(channel)), blobs_(channel, absl::Seconds(20)) {}
  std::unique_ptr<v1::Studies::Stub> studies_;
  BlobClient blobs_;
};

// "no study 'dem'; did you mean 'demo'?": `names` are those that there are; ten of them are listed.
absl::Status NoStudy(const std::string& id, const std::vector<std::string>& names);
// What a failed call about study `id` says; NoStudy where it is not there.
absl::Status StudyError(Client& client, const std::string& id, const grpc::Status& status);

// Sets the deadline of a unary call.
void SetDeadline(grpc::ClientContext& context, int seconds = 30);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_CLIENT_H_
