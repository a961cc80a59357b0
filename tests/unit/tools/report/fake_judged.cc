#include "tests/unit/tools/report/fake_judged.h"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/philox.h"

namespace dermis {
namespace {

double Draw(uint32_t a, uint32_t b) {
  const auto block = PhiloxBlock(41, Purpose::kTest, a, b, 0);
  return ToUnitDouble(block[0], block[1]);
}
double Normal(uint32_t a, uint32_t b) {
  double sum = -6;
  for (uint32_t k = 0; k < 12; ++k) sum += Draw(a, 12 * b + k);
  return sum;
}

void Say(v1::ImageEntry& entry, const std::string& key, const std::string& value) {
  v1::Attribute& attribute = *entry.add_attributes();
  attribute.set_key(key);
  attribute.set_value(value);
}

// Log odds that are `stretch` times too large; seborrhoeic keratoses look malignant.
ScoredRun Run(const v1::ImageSetManifest& manifest, const std::vector<uint32_t>& validation,
              const std::vector<uint32_t>& test, double signal, double stretch, uint32_t seed) {
  ScoredRun run;
  for (const bool is_test : {false, true}) {
    for (const uint32_t image : is_test ? test : validation) {
      const v1::ImageEntry& entry = manifest.images(static_cast<int>(image));
      double margin =
          signal * (entry.label() - .45) + 1.2 * Normal(seed, image) + .5 * Normal(90, image);
      for (const v1::Attribute& attribute : entry.attributes()) {
        if (attribute.value() == "seborrheic keratosis") margin += 1.6;
      }
      std::vector<float>& logits = is_test ? run.test_logits : run.validation_logits;
      logits.push_back(0);
      logits.push_back(static_cast<float>(stretch * margin));
    }
  }
  return run;
}

}  // namespace

FakeJudged MakeFakeJudged(uint32_t images, uint32_t each, bool leaks, const JudgeOptions& options) {
  FakeJudged fake;
  fake.manifest.add_classes("benign");
  fake.manifest.add_classes("malignant");
  std::vector<uint32_t> validation, test;
  std::vector<ImageFingerprint> prints;
  Split split;
  for (uint32_t i = 0; i < images; ++i) {
    const uint32_t lesion = i / each;
    const bool malignant = Draw(1, lesion) < .45;
    v1::ImageEntry& entry = *fake.manifest.add_images();
    entry.set_name("ISIC_" + std::to_string(1000000 + i) + ".jpg");
    entry.set_label(malignant ? 1 : 0);
    entry.set_digest("pixels " + std::to_string(i));
    if (each > 1) entry.set_group("lesion " + std::to_string(lesion));
    const double kind = Draw(2, lesion);
    Say(entry, "diagnosis",
        malignant    ? (kind < .8 ? "melanoma" : "basal cell carcinoma")
        : kind < .75 ? "nevus"
        : kind < .9  ? "seborrheic keratosis"
        : kind < .98 ? "benign keratosis"
                     : "dermatofibroma");
    Say(entry, "source", Draw(3, lesion) < .5 ? "HAM10000" : "ISIC2017");
    if (Draw(4, lesion) < .7) Say(entry, "sex", Draw(5, lesion) < .55 ? "male" : "female");
    if (Draw(6, lesion) < .7) Say(entry, "age", std::to_string(15 + int(75 * Draw(7, lesion))));
    (i < images * 2 / 5 ? validation : test).push_back(i);
    (i < images * 2 / 5 ? split.validation : split.test).push_back(i);
    ImageFingerprint print;
    for (uint32_t k = 0; k < kOrientations; ++k) {
      const auto block = PhiloxBlock(6, Purpose::kTest, i, k, 0);
      print.hash[k] = uint64_t{block[0]} << 32 | block[1];
    }
    for (size_t k = 0; k < print.thumbnail.size(); ++k) {
      print.thumbnail[k] = static_cast<uint8_t>(PhiloxBlock(7, Purpose::kTest, i, k, 0)[0]);
    }
    prints.push_back(print);
  }
  if (leaks) {
    prints[test[3]] = prints[validation[5]];
    fake.manifest.mutable_images(static_cast<int>(test[7]))
        ->set_digest(fake.manifest.images(static_cast<int>(validation[9])).digest());
  }
  const JudgedImages judged = ImagesToJudge(fake.manifest, validation, test).value();
  std::vector<std::vector<ScoredRun>> models(3);
  for (uint32_t seed = 0; seed < 3; ++seed) {
    models[0].push_back(Run(fake.manifest, validation, test, 2.2, 2.2, 10 + seed));
  }
  models[1].push_back(Run(fake.manifest, validation, test, 1.9, 1, 20));
  models[2].push_back(Run(fake.manifest, validation, test, .9, .5, 30));
  const char* const names[] = {"Seed network", "ResNet-18", "Random forest"};
  for (size_t m = 0; m < 3; ++m) {
    fake.view.models.push_back(JudgeModel(names[m], judged, models[m], options).value());
  }
  for (size_t m = 1; m < 3; ++m) {
    fake.view.comparisons.push_back(
        CompareModels(names[0], models[0][0], names[m], models[m][0], judged, options).value());
  }
  fake.view.leaks = CheckLeaks(fake.manifest, split, prints).value();
  return fake;
}

}  // namespace dermis
