// A study's text, as `dermis run` and the coordinator read it.
#include <string>

#include "common/spec_yaml.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto spec = dermis::ParseStudyYaml(dermis::Text(data, size), "fuzz.yaml");
  if (!spec.ok()) return 0;
  const auto resolved = dermis::ResolveSpec(*spec);
  if (!resolved.ok()) return 0;
  const auto again = dermis::ResolveSpec(*resolved);
  dermis::Require(again.ok(), "a resolved study can be resolved");
  dermis::Require(again->SerializeAsString() == resolved->SerializeAsString(),
                  "resolving a resolved study changes nothing");
  return 0;
}
