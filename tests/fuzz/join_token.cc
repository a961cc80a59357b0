// The text of a join token: what is taken is one spelling of it, and what is refused is repeated
// nowhere.
#include "common/join_token.h"

#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

#include "tests/fuzz/fuzz.h"

namespace {

std::string Stripped(std::string_view text) {
  std::string line(text);
  absl::StripAsciiWhitespace(&line);
  return line;
}

// All that a refusal may say: nothing of what it was given.
const std::set<std::string>& Refusals() {
  static const std::set<std::string> refusals = [] {
    const std::string hash(43, 'A');
    std::set<std::string> messages;
    for (const std::string& text :
         {std::string(), std::string("dermis-join-1"), std::string("dermis-join-1/a/a/a/a"),
          std::string("dermis-join-1/a:1/a/a/a"), "dermis-join-1/a:1/" + hash + "/x/a",
          "dermis-join-1/a:1/" + hash + "/1/a"}) {
      messages.insert(std::string(dermis::ParseJoinToken(text).status().message()));
    }
    return messages;
  }();
  return refusals;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = dermis::Text(data, size);
  const absl::StatusOr<dermis::JoinToken> token = dermis::ParseJoinToken(text);
  if (token.ok()) {
    dermis::Require(dermis::FormatJoinToken(*token) == Stripped(text),
                    "it is the token that was read");
    dermis::Require(token->secret.size() == dermis::kSecretBytes, "the secret is all there");
  } else {
    dermis::Require(Refusals().contains(std::string(token.status().message())),
                    "an error repeats nothing of the text");
  }
  const std::string logged = dermis::WithoutJoinToken(std::string(text));
  dermis::Require(logged.size() <= text.size() && !absl::StrContains(logged, "dermis-join-1/"),
                  "no token stands in a log");
  return 0;
}
