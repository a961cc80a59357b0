// What the Python packages gave: a file of tensors beneath tests/parity.
#ifndef DERMIS_TESTS_PARITY_GOLDENS_H_
#define DERMIS_TESTS_PARITY_GOLDENS_H_

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/safetensors.h"
#include "common/status_macros.h"

namespace dermis {

class Goldens {
 public:
  // `path`: beneath tests/parity.
  absl::Status Open(const std::string& path) {
    const char* root = std::getenv("DERMIS_SOURCE_DIR");
    ASSIGN_OR_RETURN(file_, MappedFile::Open(absl::StrCat(root == nullptr ? "." : root,
                                                          "/tests/parity/", path)));
    ASSIGN_OR_RETURN(view_, ParseSafetensors(file_->bytes()));
    return absl::OkStatus();
  }
  const SafetensorsView& view() const { return view_; }
  bool Has(const std::string& name) const { return view_.tensors.contains(name); }

  // Empty, and the test fails, where there is none. T: as wide as the tensor's values.
  template <typename T>
  std::vector<T> As(const std::string& name) const {
    const auto it = view_.tensors.find(name);
    EXPECT_NE(it, view_.tensors.end()) << name;
    if (it == view_.tensors.end()) return {};
    EXPECT_TRUE(absl::EndsWith(it->second.dtype, absl::StrCat(8 * sizeof(T)))) << name;
    std::vector<T> values(it->second.data.size() / sizeof(T));
    std::memcpy(values.data(), it->second.data.data(), values.size() * sizeof(T));
    return values;
  }
  // The same of floats or doubles.
  std::vector<double> Doubles(const std::string& name) const {
    if (!Has(name) || view_.tensors.at(name).dtype != "F32") return As<double>(name);
    const std::vector<float> values = As<float>(name);
    return {values.begin(), values.end()};
  }

 private:
  std::unique_ptr<MappedFile> file_;
  SafetensorsView view_;
};

}  // namespace dermis

#endif  // DERMIS_TESTS_PARITY_GOLDENS_H_
