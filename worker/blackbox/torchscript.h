// TorchScript files (torch.jit.save). They carry code that runs with this process's rights: callers
// ask the operator first. No Torch in the interface.
#ifndef DERMIS_WORKER_BLACKBOX_TORCHSCRIPT_H_
#define DERMIS_WORKER_BLACKBOX_TORCHSCRIPT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "worker/blackbox/foreign.h"

namespace dermis {

// In evaluation mode, on the calling thread alone and without the executor's optimisations: those
// come after some runs, and with them other bits. `forward` takes one tensor and gives one.
// INVALID_ARGUMENT: not such a file, or not such a model.
absl::StatusOr<std::unique_ptr<ForeignRuntime>> OpenTorchScript(const std::string& bytes,
                                                                uint32_t size);

}  // namespace dermis

#endif  // DERMIS_WORKER_BLACKBOX_TORCHSCRIPT_H_
