// ONNX files, by the library dermis_onnx.
#ifndef DERMIS_WORKER_BLACKBOX_ONNX_H_
#define DERMIS_WORKER_BLACKBOX_ONNX_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "worker/blackbox/foreign.h"

namespace dermis {

// Beside the running program: where the build and an installation put it.
std::string OnnxLibraryPath();

// `library`: its path; empty: OnnxLibraryPath(). UNAVAILABLE: no such library here, or OpenCV is
// missing. INVALID_ARGUMENT: no ONNX file, or operations that OpenCV does not know.
absl::StatusOr<std::unique_ptr<ForeignRuntime>> OpenOnnx(const std::string& bytes, uint32_t size,
                                                         const std::string& library);

}  // namespace dermis

#endif  // DERMIS_WORKER_BLACKBOX_ONNX_H_
