#include "common/evaluation/subgroups.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/philox.h"

namespace dermis {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kMeasures = 4;

std::array<SubgroupMeasure*, kMeasures> MeasuresOf(Subgroup& subgroup) {
  return {&subgroup.accuracy, &subgroup.sensitivity, &subgroup.specificity, &subgroup.area};
}
using Values = std::array<double, kMeasures>;

// The images of a subgroup, and what is measured of them.
class Part {
 public:
  Part(const ScoredImages& images, double threshold, std::vector<uint32_t> members)
      : members_(std::move(members)),
        outcomes_(Pick(images.probability), Pick(images.label), threshold),
        area_(Pick(images.probability), Pick(images.label)),
        picked_(members_.size()) {}

  // counts: of all images.
  Values operator()(Counts counts) const {
    for (size_t k = 0; k < members_.size(); ++k) picked_[k] = counts[members_[k]];
    const Outcomes of = outcomes_(picked_);
    return {of.accuracy(), of.sensitivity(), of.specificity(), area_(picked_)};
  }

 private:
  template <typename T>
  std::vector<T> Pick(const std::vector<T>& all) const {
    std::vector<T> picked;
    for (const uint32_t i : members_) picked.push_back(all[i]);
    return picked;
  }
  std::vector<uint32_t> members_;
  WeightedOutcomes outcomes_;
  WeightedArea area_;
  mutable std::vector<uint32_t> picked_;  // Scratch: one thread.
};

bool IsUnknown(const std::string& value) {
  const std::string lower = absl::AsciiStrToLower(value);
  return lower.empty() || lower == kUnknown || lower == "nan" || lower == "n/a" || lower == "none";
}

const std::string* AttributeOf(const v1::ImageEntry& image, absl::Span<const char* const> keys) {
  for (const char* key : keys) {
    for (const v1::Attribute& attribute : image.attributes()) {
      if (attribute.key() == key && !IsUnknown(attribute.value())) return &attribute.value();
    }
  }
  return nullptr;
}

// Values by falling number of images, then by name; rare ones as "other"; unknown last.
void OrderByCount(SubgroupColumn& column) {
  std::map<std::string, size_t> count;
  for (const std::string& value : column.value) {
    if (value != kUnknown) ++count[value];
  }
  std::vector<std::pair<std::string, size_t>> sorted(count.begin(), count.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (sorted.size() > kMostValues) {
    sorted.resize(kMostValues - 1);
    std::set<std::string> kept;
    for (const auto& [value, n] : sorted) kept.insert(value);
    for (std::string& value : column.value) {
      if (value != kUnknown && !kept.contains(value)) value = "other";
    }
  }
  for (const auto& [value, n] : sorted) column.order.push_back(value);
  for (const char* last : {"other", kUnknown}) {
    if (std::find(column.value.begin(), column.value.end(), last) != column.value.end() &&
        std::find(column.order.begin(), column.order.end(), last) == column.order.end()) {
      column.order.push_back(last);
    }
  }
}

// Lesions by class, each the class of its first image.
struct Lesions {
  std::vector<uint32_t> first;  // Image of each lesion; no image: its number is not used.
  std::vector<uint32_t> of_class[2];
};
constexpr uint32_t kNoImage = std::numeric_limits<uint32_t>::max();

Lesions LesionsOf(const ScoredImages& images) {
  Lesions lesions;
  for (uint32_t i = 0; i < images.group.size(); ++i) {
    const uint32_t g = images.group[i];
    if (g >= lesions.first.size()) lesions.first.resize(g + size_t{1}, kNoImage);
    if (lesions.first[g] == kNoImage) lesions.first[g] = i;
  }
  for (uint32_t g = 0; g < lesions.first.size(); ++g) {
    if (lesions.first[g] != kNoImage) {
      lesions.of_class[images.label[lesions.first[g]] == 1].push_back(g);
    }
  }
  return lesions;
}

// Whether each measure may be tested: enough lesions within and without.
std::array<bool, kMeasures> Testable(const std::array<uint64_t, 2>& within,
                                     const std::array<uint64_t, 2>& all) {
  const auto enough = [&](int c) {
    return within[c] >= kFewestLesions && all[c] - within[c] >= kFewestLesions;
  };
  const uint64_t inside = within[0] + within[1], total = all[0] + all[1];
  return {inside >= kFewestLesions && total - inside >= kFewestLesions, enough(1), enough(0),
          enough(0) && enough(1)};
}

// The measures of the images within less those of the images without. `all`: one Part of all
// images.
Values Difference(const Part& all, absl::Span<const uint32_t> within,
                  std::vector<uint32_t>& without) {
  without.resize(within.size());
  for (size_t i = 0; i < within.size(); ++i) without[i] = 1 - within[i];
  const Values a = all(within), b = all(without);
  Values difference;
  for (size_t m = 0; m < kMeasures; ++m) difference[m] = a[m] - b[m];
  return difference;
}

std::vector<uint32_t> MembersOf(const SubgroupColumn& column, const std::string& value) {
  std::vector<uint32_t> members;
  for (uint32_t i = 0; i < column.value.size(); ++i) {
    if (column.value[i] == value) members.push_back(i);
  }
  return members;
}

// A subgroup on its way through the permutations.
struct Tested {
  std::vector<uint8_t> lesion_within;  // By lesion.
  std::array<bool, kMeasures> testable = {};
  Values observed = {};                        // Lesions as wholes.
  std::array<uint32_t, kMeasures> lower = {};  // Permutations at or below, at or above.
  std::array<uint32_t, kMeasures> upper = {};
};

}  // namespace

SubgroupColumn BandsOf(const std::string& title, absl::Span<const double> values,
                       absl::Span<const double> edges, const std::string& unit) {
  std::vector<std::string> names;
  for (size_t band = 0; band <= edges.size(); ++band) {
    names.push_back(band == 0 ? absl::StrCat("below ", edges[0], unit)
                    : band == edges.size()
                        ? absl::StrCat(edges.back(), unit, " and above")
                        : absl::StrCat(edges[band - 1], " to below ", edges[band], unit));
  }
  names.push_back(kUnknown);
  SubgroupColumn column{title, {}, {}};
  std::vector<bool> there(names.size(), false);
  for (const double value : values) {
    const size_t band =
        std::isnan(value)
            ? names.size() - 1
            : static_cast<size_t>(std::upper_bound(edges.begin(), edges.end(), value) -
                                  edges.begin());
    there[band] = true;
    column.value.push_back(names[band]);
  }
  for (size_t band = 0; band < names.size(); ++band) {
    if (there[band]) column.order.push_back(names[band]);
  }
  return column;
}

std::vector<SubgroupColumn> SubgroupColumnsOf(const v1::ImageSetManifest& manifest,
                                              absl::Span<const uint32_t> images) {
  struct Asked {
    const char* title;
    std::vector<const char*> keys;
  };
  static const Asked kAsked[] = {
      {"diagnosis", {"diagnosis", "dx"}},
      {"source", {"source", "dataset"}},
      {"image size", {"obtained_as", "image_size"}},
      {"sex", {"sex"}},
      {"age", {"age", "age_approx"}},
      {"site", {"site", "anatom_site_general", "localization"}},
  };
  std::vector<SubgroupColumn> columns;
  for (const Asked& asked : kAsked) {
    SubgroupColumn column{asked.title, {}, {}};
    std::vector<double> numbers;
    for (const uint32_t image : images) {
      const std::string* value = AttributeOf(manifest.images(static_cast<int>(image)), asked.keys);
      column.value.push_back(value == nullptr ? kUnknown : *value);
      double number = kNone;
      if (value == nullptr || !absl::SimpleAtod(*value, &number)) number = kNone;
      numbers.push_back(number);
    }
    const auto known = [](const std::string& value) { return value != kUnknown; };
    if (std::none_of(column.value.begin(), column.value.end(), known)) continue;
    if (std::string(asked.title) == "age") {
      column = BandsOf("age", numbers, {30, 50, 70});
    } else {
      OrderByCount(column);
    }
    columns.push_back(std::move(column));
  }
  return columns;
}

std::vector<double> HolmAdjusted(absl::Span<const double> p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.begin(), p.end());
  double least = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    least = std::max(least, std::min(1.0, static_cast<double>(order.size() - k) * p[order[k]]));
    adjusted[order[k]] = least;
  }
  return adjusted;
}

std::vector<Subgroup> SubgroupsOf(const ScoredImages& images,
                                  absl::Span<const SubgroupColumn> columns,
                                  const SubgroupOptions& options) {
  const size_t n = images.label.size();
  const Lesions lesions = LesionsOf(images);
  const std::array<uint64_t, 2> total = {lesions.of_class[0].size(), lesions.of_class[1].size()};
  std::vector<uint32_t> everyone(n), within(n), without;
  for (uint32_t i = 0; i < n; ++i) everyone[i] = i;
  const Part all(images, options.threshold, everyone);

  std::vector<Subgroup> subgroups;
  std::vector<Tested> tested;
  for (const SubgroupColumn& column : columns) {
    for (const std::string& value : column.order) {
      Subgroup subgroup{column.title, value, 0, 0, 0, {}, {}, {}, {}};
      std::set<uint32_t> seen;
      for (size_t i = 0; i < n; ++i) {
        within[i] = column.value[i] == value ? 1 : 0;
        if (within[i] == 0) continue;
        ++subgroup.n;
        subgroup.positives += images.label[i] == 1 ? 1 : 0;
        seen.insert(images.group[i]);
      }
      subgroup.lesions = seen.size();
      const Values values = all(within);
      const Values difference = Difference(all, within, without);
      const auto measures = MeasuresOf(subgroup);
      for (size_t m = 0; m < kMeasures; ++m) {
        *measures[m] = {{values[m], {kNone, kNone}}, difference[m], kNone, kNone};
      }

      Tested test;
      test.lesion_within.assign(lesions.first.size(), 0);
      std::array<uint64_t, 2> inside = {0, 0};
      for (int c = 0; c < 2; ++c) {
        for (const uint32_t lesion : lesions.of_class[c]) {
          const bool is = column.value[lesions.first[lesion]] == value;
          test.lesion_within[lesion] = is ? 1 : 0;
          inside[c] += is ? 1 : 0;
        }
      }
      test.testable = Testable(inside, total);
      for (size_t i = 0; i < n; ++i) within[i] = test.lesion_within[images.group[i]];
      test.observed = Difference(all, within, without);
      subgroups.push_back(std::move(subgroup));
      tested.push_back(std::move(test));
    }
  }

  std::vector<uint32_t> place(lesions.first.size());
  for (uint32_t draw = 0; draw < options.permutations; ++draw) {
    // One shuffle for all subgroups (Fisher and Yates).
    for (int c = 0; c < 2; ++c) {
      std::vector<uint32_t> order = lesions.of_class[c];
      for (size_t k = order.size(); k > 1; --k) {
        const auto block =
            PhiloxBlock(options.seed, Purpose::kSubgroups, draw, k - 1, static_cast<uint32_t>(c));
        const double unit = ToUnitDouble(block[0], block[1]);
        std::swap(order[k - 1],
                  order[std::min(k - 1, static_cast<size_t>(unit * static_cast<double>(k)))]);
      }
      for (size_t k = 0; k < order.size(); ++k) place[lesions.of_class[c][k]] = order[k];
    }
    for (Tested& test : tested) {
      if (std::none_of(test.testable.begin(), test.testable.end(), [](bool is) { return is; })) {
        continue;
      }
      for (size_t i = 0; i < n; ++i) within[i] = test.lesion_within[place[images.group[i]]];
      const Values drawn = Difference(all, within, without);
      for (size_t m = 0; m < kMeasures; ++m) {
        // Equal sums may round apart.
        test.lower[m] += drawn[m] <= test.observed[m] + 1e-12;
        test.upper[m] += drawn[m] >= test.observed[m] - 1e-12;
      }
    }
  }
  for (size_t m = 0; m < kMeasures; ++m) {
    std::vector<double> p;
    for (const Tested& test : tested) {
      const double tail = (1.0 + std::min(test.lower[m], test.upper[m])) /
                          (1.0 + static_cast<double>(options.permutations));
      p.push_back(test.testable[m] ? std::min(1.0, 2 * tail) : kNone);
    }
    const std::vector<double> holm = HolmAdjusted(p);
    for (size_t s = 0; s < subgroups.size(); ++s) {
      MeasuresOf(subgroups[s])[m]->p = p[s];
      MeasuresOf(subgroups[s])[m]->holm = holm[s];
    }
  }
  return subgroups;
}

void AddIntervals(const ScoredImages& images, absl::Span<const SubgroupColumn> columns,
                  const SubgroupOptions& options, std::vector<Subgroup>& subgroups,
                  BootstrapPass& pass) {
  size_t at = 0;
  for (const SubgroupColumn& column : columns) {
    for (const std::string& value : column.order) {
      Subgroup& subgroup = subgroups[at++];
      std::vector<uint32_t> members = MembersOf(column, value);
      std::set<uint32_t> of_class[2];
      for (const uint32_t i : members) of_class[images.label[i] == 1].insert(images.group[i]);
      const bool negative = of_class[0].size() >= kFewestLesions;
      const bool positive = of_class[1].size() >= kFewestLesions;
      const std::array<bool, kMeasures> enough = {subgroup.lesions >= kFewestLesions, positive,
                                                  negative, positive && negative};
      std::vector<Interval*> into;
      for (SubgroupMeasure* measure : MeasuresOf(subgroup)) {
        into.push_back(&measure->estimate.interval);
      }
      pass.Add(into, [enough, part = Part(images, options.threshold, std::move(members))](
                         Counts counts, absl::Span<double> values) {
        const Values of = part(counts);
        for (size_t m = 0; m < kMeasures; ++m) values[m] = enough[m] ? of[m] : kNone;
      });
    }
  }
}

}  // namespace dermis
