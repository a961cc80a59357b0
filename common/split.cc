#include "common/split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/philox.h"
#include "common/status_macros.h"

namespace dermis {
namespace {

enum class Part { kTraining, kValidation, kTest };

// Images that stay together. An image without a group is one by itself.
struct Group {
  std::string name;
  uint32_t rank = 0;   // In ascending order of (named or not, name).
  uint32_t label = 0;  // Of its first image.
  std::vector<uint32_t> images;
  Part part = Part::kTraining;
};

constexpr char kNoMasks[] =
    "masked_only: no image of the set has a lesion mask; dermis ingest --masks takes them";

absl::Status Bad(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("images.split: ", why));
}

std::vector<Group> GroupsOf(const v1::ImageSetManifest& manifest, bool masked_only) {
  // Image and group names are two worlds: an image called like a group is not of that group.
  std::map<std::pair<bool, std::string>, Group> by_name;
  for (int i = 0; i < manifest.images_size(); ++i) {
    const v1::ImageEntry& entry = manifest.images(i);
    if (masked_only && !entry.has_mask()) continue;
    const bool named = !entry.group().empty();
    const std::string& name = named ? entry.group() : entry.name();
    Group& group = by_name[{named, name}];
    if (group.images.empty()) {
      group.name = name;
      group.label = entry.label();
    }
    group.images.push_back(static_cast<uint32_t>(i));
  }
  std::vector<Group> groups;
  groups.reserve(by_name.size());
  for (auto& [name, group] : by_name) {
    group.rank = static_cast<uint32_t>(groups.size());
    groups.push_back(std::move(group));
  }
  return groups;
}

absl::Status SplitByColumn(const v1::ImageSetManifest& manifest, const std::string& column,
                           std::vector<Group>* groups) {
  for (Group& group : *groups) {
    for (uint32_t image : group.images) {
      const v1::ImageEntry& entry = manifest.images(static_cast<int>(image));
      const auto at = std::find_if(entry.attributes().begin(), entry.attributes().end(),
                                   [&](const v1::Attribute& a) { return a.key() == column; });
      if (at == entry.attributes().end()) {
        std::string known;
        for (const v1::Attribute& a : entry.attributes()) absl::StrAppend(&known, " ", a.key());
        return Bad(absl::StrCat("image ", entry.name(), " has no column '", column,
                                "'; its columns:", known.empty() ? " none" : known,
                                ": set images.split.column to one of them, or remove it and give "
                                "images.split.test: 0.2"));
      }
      Part part;
      if (at->value() == "train") {
        part = Part::kTraining;
      } else if (at->value() == "validation") {
        part = Part::kValidation;
      } else if (at->value() == "test") {
        part = Part::kTest;
      } else {
        return Bad(absl::StrCat("image ", entry.name(), " has '", at->value(), "' in column '",
                                column, "'; train, validation and test are allowed"));
      }
      if (image == group.images.front()) group.part = part;
      if (part != group.part) {
        return Bad(absl::StrCat("group '", group.name, "' is torn apart by column '", column,
                                "': see image ", entry.name(),
                                "; give all its images one value, or ingest without groups"));
      }
    }
  }
  return absl::OkStatus();
}

// Takes about `fraction` of each class's training images into `part`, whole groups in random order.
absl::Status TakeFraction(const v1::ImageSetManifest& manifest, double fraction, Part part,
                          uint64_t seed, std::vector<Group>* groups) {
  const char* const key = part == Part::kTest ? "test" : "validation";
  if (!(fraction > 0 && fraction < 1)) {
    return Bad(absl::StrCat(key, " is ", fraction, "; a fraction above 0 and below 1 is needed"));
  }
  for (int label = 0; label < manifest.classes_size(); ++label) {
    std::vector<std::pair<uint64_t, Group*>> order;  // (random key, group).
    uint64_t images = 0;
    for (Group& group : *groups) {
      if (group.part != Part::kTraining || group.label != static_cast<uint32_t>(label)) continue;
      const auto block =
          PhiloxBlock(seed, Purpose::kSplit, group.rank, part == Part::kTest ? 0 : 1, 0);
      order.emplace_back(uint64_t{block[0]} << 32 | block[1], &group);
      images += group.images.size();
    }
    if (order.size() < 2) {
      return Bad(absl::StrCat("class '", manifest.classes(label), "' has ", order.size(),
                              " group(s) of images left to divide into training and ", key,
                              "; two are needed at least"));
    }
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second->rank < b.second->rank;
    });
    const auto wanted =
        static_cast<uint64_t>(std::floor(fraction * static_cast<double>(images) + .5));
    uint64_t taken = 0;
    // At least one group goes, and at least one stays.
    for (size_t k = 0; k + 1 < order.size() && (k == 0 || taken < wanted); ++k) {
      order[k].second->part = part;
      taken += order[k].second->images.size();
    }
  }
  return absl::OkStatus();
}

// Divides each class's groups that do not test into `folds` parts of about as many images, in
// random order; part `fold` validates, the others train.
absl::Status TakeFold(const v1::ImageSetManifest& manifest, uint32_t folds, uint32_t fold,
                      uint64_t seed, std::vector<Group>* groups) {
  for (int label = 0; label < manifest.classes_size(); ++label) {
    std::vector<std::pair<uint64_t, Group*>> order;  // (random key, group).
    for (Group& group : *groups) {
      if (group.part == Part::kTest || group.label != static_cast<uint32_t>(label)) continue;
      const auto block = PhiloxBlock(seed, Purpose::kSplit, group.rank, 2, 0);
      order.emplace_back(uint64_t{block[0]} << 32 | block[1], &group);
    }
    if (order.size() < folds) {
      return Bad(absl::StrCat("class '", manifest.classes(label), "' has ", order.size(),
                              " group(s) of images that do not test, fewer than ", folds,
                              " folds: lower sweep.folds"));
    }
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : a.second->rank < b.second->rank;
    });
    std::vector<size_t> images(folds, 0);
    for (const auto& [key, group] : order) {
      const auto smallest = std::min_element(images.begin(), images.end());
      *smallest += group->images.size();
      group->part = static_cast<uint32_t>(smallest - images.begin()) == fold ? Part::kValidation
                                                                             : Part::kTraining;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Split> MakeSplit(const v1::ImageSetManifest& manifest, const v1::SplitSpec& spec,
                                uint64_t seed) {
  if (spec.column().empty() && spec.test() == 1) {  // Nothing is trained: all is looked at.
    Split all;
    for (int i = 0; i < manifest.images_size(); ++i) {
      if (spec.masked_only() && !manifest.images(i).has_mask()) continue;
      all.test.push_back(static_cast<uint32_t>(i));
    }
    if (all.test.empty()) return Bad(kNoMasks);
    return all;
  }
  std::vector<Group> groups = GroupsOf(manifest, spec.masked_only());
  if (groups.empty()) {
    return Bad(kNoMasks);
  }
  if (spec.column().empty()) {
    RETURN_IF_ERROR(TakeFraction(manifest, spec.test(), Part::kTest, seed, &groups));
  } else {
    RETURN_IF_ERROR(SplitByColumn(manifest, spec.column(), &groups));
  }
  // A column that names validation images decides; the fraction is for those that do not.
  const bool given = std::any_of(groups.begin(), groups.end(),
                                 [](const Group& g) { return g.part == Part::kValidation; });
  if (spec.folds() > 0) {
    RETURN_IF_ERROR(TakeFold(manifest, spec.folds(), spec.fold(), seed, &groups));
  } else if (!given) {
    RETURN_IF_ERROR(TakeFraction(manifest, spec.validation(), Part::kValidation, seed, &groups));
  }
  Split split;
  for (const Group& group : groups) {
    std::vector<uint32_t>& part = group.part == Part::kTest         ? split.test
                                  : group.part == Part::kValidation ? split.validation
                                                                    : split.training;
    part.insert(part.end(), group.images.begin(), group.images.end());
  }
  for (auto [part, name] :
       {std::pair(&split.training, "training"), std::pair(&split.validation, "validation"),
        std::pair(&split.test, "test")}) {
    if (part->empty()) return Bad(absl::StrCat("no image is left for ", name));
    std::sort(part->begin(), part->end());
  }
  return split;
}

}  // namespace dermis
