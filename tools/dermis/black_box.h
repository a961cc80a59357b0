// How the command line is told what an ONNX or TorchScript file takes and gives, which a
// safetensors file says itself.
#ifndef DERMIS_TOOLS_DERMIS_BLACK_BOX_H_
#define DERMIS_TOOLS_DERMIS_BLACK_BOX_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "dermis/v1/spec.pb.h"
#include "tools/dermis/app.h"

namespace dermis {

struct BlackBoxOptions {
  uint32_t size = 224;  // Pixels a side.
  double range = 1;
  std::vector<double> mean, deviation;
  std::string channels = "rgb";
  bool probabilities = false;
};

inline constexpr char kBlackBoxGroup[] = "ONNX and TorchScript";
void AddBlackBoxOptions(CLI::App& command, BlackBoxOptions& options);

// classes: of the outputs, in their order; empty: the image set's.
absl::Status FillBlackBox(const BlackBoxOptions& options, const std::vector<std::string>& classes,
                          v1::StudySpec& spec);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_BLACK_BOX_H_
