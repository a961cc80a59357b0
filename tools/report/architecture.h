// A network, layer by layer: the counterpart of the seed paper's Table 2.
#ifndef DERMIS_TOOLS_REPORT_ARCHITECTURE_H_
#define DERMIS_TOOLS_REPORT_ARCHITECTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "dermis/v1/studies.pb.h"

namespace dermis {

struct Layer {
  std::string name, type,
      output;  // "conv1", "3 × 3 convolution", "32 × 32 × 32" (height, width, channels).
  uint64_t trained = 0, other = 0;  // Parameters; other: running statistics.
};

struct Architecture {
  std::vector<Layer> rows;
  uint64_t trained() const;
  uint64_t other() const;
  uint64_t total() const { return trained() + other(); }
};

// Of the study's network; without rows where it is another program's.
Architecture ArchitectureOf(const v1::StudyResults& results, int classes);

std::string RenderArchitecture(const Architecture& architecture);
std::string ArchitectureCsv(const Architecture& architecture);

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_ARCHITECTURE_H_
