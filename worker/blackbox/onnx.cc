#include "worker/blackbox/onnx.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include <dlfcn.h>

#include "common/status_macros.h"
#include "worker/blackbox/onnx_library.h"

namespace dermis {
namespace {

constexpr size_t kWords = 1000;         // Of an error.
constexpr size_t kMostOutputs = 65536;  // More is no classifier.

// Stays loaded until the process ends.
absl::StatusOr<const OnnxLibraryTable*> Load(const std::string& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::UnavailableError(absl::StrCat("this worker runs no ONNX files: ", dlerror(),
                                               "; install libopencv-dnn406 (tools/setup does)"));
  }
  const auto entry =
      reinterpret_cast<decltype(&DermisOnnxLibrary)>(dlsym(library, "DermisOnnxLibrary"));
  if (entry == nullptr || entry()->release != kOnnxLibraryRelease) {
    return absl::UnavailableError(
        absl::StrCat(path, " is not of this program's release: build or install both together"));
  }
  return entry();
}

class Onnx final : public ForeignRuntime {
 public:
  Onnx(const OnnxLibraryTable* table, void* network, uint32_t size)
      : table_(table), network_(network), size_(size) {}
  ~Onnx() override { table_->close(network_); }
  Onnx(const Onnx&) = delete;
  Onnx& operator=(const Onnx&) = delete;

  absl::StatusOr<std::vector<float>> Run(const float* tensor) override {
    std::vector<float> outputs(kMostOutputs);
    char error[kWords] = {};
    const int64_t count =
        table_->run(network_, tensor, size_, outputs.data(), outputs.size(), error, sizeof error);
    if (count < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the model's file does not run on a 1 x 3 x ",
                                                     size_, " x ", size_, " input: ", error));
    }
    if (count > static_cast<int64_t>(kMostOutputs)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the model's file: it gives ", count, " outputs: is it a classifier?"));
    }
    outputs.resize(static_cast<size_t>(count));
    return outputs;
  }

 private:
  const OnnxLibraryTable* const table_;
  void* const network_;
  const uint32_t size_;
};

}  // namespace

std::string OnnxLibraryPath() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path() / "libdermis_onnx.so").string();
}

absl::StatusOr<std::unique_ptr<ForeignRuntime>> OpenOnnx(const std::string& bytes, uint32_t size,
                                                         const std::string& library) {
  ASSIGN_OR_RETURN(const OnnxLibraryTable* const table,
                   Load(library.empty() ? OnnxLibraryPath() : library));
  char error[kWords] = {};
  void* const network = table->open(bytes.data(), bytes.size(), error, sizeof error);
  if (network == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model's file is no ONNX that OpenCV ", table->version,
                     " can run (try another opset, e.g. 11): ", error));
  }
  return std::make_unique<Onnx>(table, network, size);
}

}  // namespace dermis
