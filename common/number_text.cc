#include "common/number_text.h"

#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace dermis {

std::string NumberText(double value, int digits) {
  if (digits > 0) value = std::strtod(absl::StrFormat("%.*g", digits, value).c_str(), nullptr);
  if (!(std::abs(value) >= 10'000 && std::abs(value) < 1e18) || value != std::floor(value)) {
    return absl::StrCat(value);
  }
  const std::string whole = absl::StrFormat("%.0f", std::abs(value));
  std::string text(value < 0 ? "-" : "");
  for (size_t i = 0; i < whole.size(); ++i) {
    if (i > 0 && (whole.size() - i) % 3 == 0) text += ',';
    text += whole[i];
  }
  return text;
}

}  // namespace dermis
