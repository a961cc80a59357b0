// Weights and training states.
#include "common/safetensors.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = dermis::ParseSafetensors(dermis::Text(data, size));
  if (!file.ok()) return 0;
  // Every byte that a view promises is there.
  unsigned sum = 0;
  for (const auto& [name, tensor] : file->tensors) {
    for (char c : tensor.data) sum += static_cast<unsigned char>(c);
  }
  const std::string written = dermis::SerializeSafetensors(file->tensors, file->metadata);
  const auto again = dermis::ParseSafetensors(written);
  dermis::Require(again.ok() && again->tensors.size() == file->tensors.size() &&
                      again->metadata == file->metadata,
                  "what was read can be written and read again");
  return sum == 1 ? 1 : 0;  // Keeps the loop.
}
