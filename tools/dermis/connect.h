// The connection beneath Client (client.h), for services that it does not speak to.
#ifndef DERMIS_TOOLS_DERMIS_CONNECT_H_
#define DERMIS_TOOLS_DERMIS_CONNECT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"

namespace dermis {

// Reads the coordinator's address (directory/store/address) and a certificate: the admin's where there is one, else the
// user's. Errors say what to do.
absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectToCluster(const std::string& cluster_directory);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_CONNECT_H_
