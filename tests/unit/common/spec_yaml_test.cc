#include "common/spec_yaml.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace dermis {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view text) {
  auto spec = ParseStudyYaml(text, "s.yaml");
  return std::string(spec.status().message());
}

std::string ResolveError(std::string_view text) {
  auto spec = ParseStudyYaml(text, "s.yaml");
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.ok() ? std::string(ResolveSpec(*spec).status().message()) : "";
}

TEST(SpecYamlTest, UnknownKey_IsNamedWithPlaceAndNearestKey) {
  EXPECT_THAT(ErrorOf("name: a\ntraining:\n  epoch: 3\n"),
              AllOf(HasSubstr("s.yaml:3:3"), HasSubstr("unknown key 'epoch'"),
                    HasSubstr("did you mean 'epochs'?")));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {model: seed_cmn}\n"),
              AllOf(HasSubstr("s.yaml:2"), HasSubstr("did you mean 'seed_cnn'?")));
}

TEST(SpecYamlTest, AKeyThatStandsElsewhere_IsNamedWithItsPlace) {
  EXPECT_THAT(ErrorOf("name: a\ntraining: {learning_rate: 0.1}\n"),
              HasSubstr("did you mean 'training.optimizer.rmsprop.learning_rate'?"));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {lr: 0.1}\n"),
              HasSubstr("did you mean 'training.optimizer.rmsprop.learning_rate'?"));
  EXPECT_THAT(ErrorOf("name: a\nepochs: 3\n"), HasSubstr("did you mean 'training.epochs'?"));
  EXPECT_THAT(ErrorOf("name: a\nsweep: {grid: {learning_rate: [1]}}\n"), HasSubstr("stands in sweep.axes"));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {size: 64}\n"), HasSubstr("did you mean 'images.size'?"));
}

TEST(SpecYamlTest, WordsOfOthers_AreTranslated) {
  EXPECT_THAT(ErrorOf("name: a\nexplanation: {methods: [shap]}\n"),
              HasSubstr("did you mean 'shapley' or 'deep_shap'?"));
  EXPECT_THAT(ErrorOf("name: a\nexplanation: {methods: [kernel_shap]}\n"),
              HasSubstr("did you mean 'shapley: {estimator: kernel}'?"));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {precision: fp16}\n"), HasSubstr("did you mean 'bf16'?"));
  EXPECT_THAT(ErrorOf("name: a\ntraining: {optimizer: adam}\n"), HasSubstr("did you mean 'adamw'?"));
}

TEST(SpecYamlTest, WhatIsNoMapping_SaysHowAStudyBegins) {
  EXPECT_THAT(ErrorOf(""), AllOf(HasSubstr("s.yaml is empty"), HasSubstr("name: demo")));
  EXPECT_THAT(ErrorOf("# nothing\n"), HasSubstr("is empty"));
  EXPECT_THAT(ErrorOf("- name: a\n"), HasSubstr("s.yaml is not a mapping"));
  EXPECT_THAT(ErrorOf("demo\n"), HasSubstr("s.yaml is not a mapping"));
}

TEST(SpecYamlTest, TooLargeANumber_IsToldTheLargest) {
  EXPECT_THAT(ErrorOf("name: a\ntraining: {epochs: 99999999999}\n"), HasSubstr("from 0 to 4,294,967,295"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {epochs: 2000000}\n"),
              HasSubstr("is 2,000,000; it must be from 1 to 1,000,000"));
}

TEST(SpecYamlTest, PlaceOf_FindsKeysAndItems) {
  const char* text = "name: a\nexplanation:\n  methods:\n    - grad_cam\n    - lime: {samples: 3}\n";
  EXPECT_EQ(PlaceOf(text, "name"), ":1:1");
  EXPECT_EQ(PlaceOf(text, "explanation.methods[1].lime.samples"), ":5:14");
  EXPECT_EQ(PlaceOf(text, "explanation.methods[0].grad_cam"), ":4:7");
  EXPECT_EQ(PlaceOf(text, "training.epochs"), "");
}

TEST(SpecYamlTest, ASetting_ReachesAnItemOfAList) {
  v1::StudySpec spec = *ParseStudyYaml("name: a\nexplanation: {methods: [grad_cam, lime: {samples: 500}]}\n", "s");
  EXPECT_TRUE(Override(spec, "explanation.methods[1].lime.samples=50").ok());
  EXPECT_EQ(spec.explanation().methods(1).lime().samples(), 50u);
  EXPECT_TRUE(Override(spec, "explanation.methods[0]=hires_cam").ok());
  EXPECT_TRUE(spec.explanation().methods(0).has_hires_cam());
  EXPECT_THAT(std::string(Override(spec, "explanation.methods[2].lime.samples=50").message()),
              HasSubstr("the study names 2 methods, which count from 0"));
  EXPECT_THAT(std::string(Override(spec, "explanation.methods.lime.samples=50").message()),
              HasSubstr("is a list: give all of it, methods=[...], or the place of one item, methods[0]"));
}

TEST(SpecYamlTest, ASetting_TakesThePlaceOfWhatTheFileSays) {
  v1::StudySpec spec = *ParseStudyYaml(
      "name: a\ntraining: {epochs: 3, optimizer: {rmsprop: {alpha: 0.5}}}\n"
      "explanation: {methods: [lime, grad_cam]}\n",
      "s.yaml");
  for (const char* setting :
       {"training.epochs=20", "name=b", "images.split={test: 0.3, validation: 0.2}",
        "training.optimizer={sgd: {momentum: 0.8}}", "explanation.methods=[shapley: {permutations: 4}]"}) {
    const absl::Status status = Override(spec, setting);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(spec.name(), "b");
  EXPECT_EQ(spec.training().epochs(), 20u);
  EXPECT_EQ(spec.images().split().test(), 0.3);
  EXPECT_EQ(spec.training().optimizer().sgd().momentum(), 0.8);
  EXPECT_FALSE(spec.training().optimizer().has_rmsprop());
  ASSERT_EQ(spec.explanation().methods_size(), 1);
  EXPECT_EQ(spec.explanation().methods(0).shapley().permutations(), 4u);
}

TEST(SpecYamlTest, AWrongSetting_IsToldAsTheFileWouldTellIt) {
  v1::StudySpec spec;
  const auto error = [&](const char* setting) {
    return std::string(Override(spec, setting).message());
  };
  EXPECT_THAT(error("training.epoch=3"),
              AllOf(HasSubstr("--set training.epoch=3: "), HasSubstr("did you mean 'epochs'?")));
  EXPECT_EQ(error("training.epochs=many"),
            "--set training.epochs=many: 'training.epochs' must be a whole number from 0 to 4,294,967,295, not 'many'");
  EXPECT_THAT(error("training.model=seed_cmn"), HasSubstr("did you mean 'seed_cnn'?"));
  EXPECT_THAT(error("training={epoch: 3}"), HasSubstr("did you mean 'epochs'?"));
  EXPECT_THAT(error("training.epochs=[1"), HasSubstr("--set training.epochs=[1: "));
  EXPECT_THAT(error("=3"), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(error("training.epochs"), HasSubstr("KEY=VALUE"));
}

TEST(SpecYamlTest, WrongTypes_AreErrorsWithTheirPlace) {
  EXPECT_THAT(ErrorOf("seed: -1\n"), HasSubstr("s.yaml:1:7"));
  EXPECT_THAT(ErrorOf("seed: 1.5\n"), HasSubstr("whole number"));
  EXPECT_THAT(ErrorOf("training: {epochs: many}\n"), HasSubstr("training.epochs"));
  EXPECT_THAT(ErrorOf("training: {augment: maybe}\n"), HasSubstr("true or false"));
  EXPECT_THAT(ErrorOf("training: [1]\n"), HasSubstr("mapping"));
  EXPECT_THAT(ErrorOf("explanation: {methods: grad_cam}\n"), HasSubstr("list"));
  EXPECT_THAT(ErrorOf("name: a\nname: b\n"), HasSubstr("twice"));
  EXPECT_THAT(ErrorOf("images: {split: {test: .nan}}\n"), HasSubstr("must be a number"));
  EXPECT_NE(ErrorOf("name: [a\n"), "");
}

TEST(SpecYamlTest, TwoMembersOfAChoice_AreRefused) {
  EXPECT_THAT(ErrorOf("explanation: {methods: [{lime: {}, shapley: {}}]}\n"), HasSubstr("excludes"));
}

TEST(SpecYamlTest, Methods_AreReadInEverySpelling) {
  const auto spec = ParseStudyYaml(
      "name: a\nexplanation:\n  methods:\n    - lime: {samples: 20, superpixels: {slic: {count: 7}}}\n"
      "    - grad_cam\n    - grad_cam: {}\n    - activation_maps:\n    - shapley: {superpixels: quickshift}\n",
      "s.yaml");
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto& methods = spec->explanation().methods();
  ASSERT_EQ(methods.size(), 5);
  EXPECT_EQ(methods[0].lime().samples(), 20u);
  EXPECT_EQ(methods[0].lime().superpixels().slic().count(), 7u);
  EXPECT_TRUE(methods[1].has_grad_cam());
  EXPECT_TRUE(methods[2].has_grad_cam());
  EXPECT_TRUE(methods[3].has_activation_maps());
  EXPECT_TRUE(methods[4].shapley().superpixels().has_quickshift());
}

TEST(SpecYamlTest, Resolve_FillsTheDefaultsOfTheSchema) {
  const auto spec = ResolveSpec(*ParseStudyYaml("name: a\nexplanation: {}\n", "s.yaml"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->seed(), 1u);
  EXPECT_EQ(spec->images().size(), 32u);
  EXPECT_EQ(spec->images().split().test(), 0.2);
  EXPECT_EQ(spec->images().split().validation(), 0.1);
  EXPECT_EQ(spec->training().logical_shards(), 4u);
  EXPECT_EQ(spec->training().batch_size(), 64u);
  EXPECT_EQ(spec->training().epochs(), 100u);
  EXPECT_TRUE(spec->training().augment());
  EXPECT_TRUE(spec->training().dropout());
  EXPECT_EQ(spec->training().precision(), v1::PRECISION_FP32);
  EXPECT_FALSE(spec->training().has_early_stopping());
  EXPECT_EQ(spec->training().optimizer().rmsprop().learning_rate(), 1e-3);
  EXPECT_EQ(spec->evaluation().batch_size(), 64u);
  const v1::ExplanationSpec& explanation = spec->explanation();
  EXPECT_EQ(explanation.output(), v1::OUTPUT_KIND_MARGIN);
  EXPECT_EQ(explanation.images().per_confusion_cell().most_confident(), 2u);
  ASSERT_EQ(explanation.methods_size(), 4);
  EXPECT_EQ(explanation.methods(0).lime().samples(), 1000u);
  EXPECT_EQ(explanation.methods(0).lime().hidden(), v1::HIDDEN_VALUE_SUPERPIXEL_MEAN);
  EXPECT_EQ(explanation.methods(0).lime().superpixels().slic().count(), 50u);
  EXPECT_EQ(explanation.methods(1).shapley().permutations(), 64u);
  EXPECT_EQ(explanation.methods(1).shapley().hidden(), v1::HIDDEN_VALUE_TRAINING_MEAN);
  EXPECT_TRUE(explanation.methods(2).has_grad_cam());
  EXPECT_TRUE(explanation.methods(3).has_activation_maps());
}

TEST(SpecYamlTest, Resolve_RefusesWhatCannotRun) {
  EXPECT_THAT(ResolveError("name: a\ntraining: {logical_shards: 3}\n"), HasSubstr("power of two"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {logical_shards: 4, batch_size: 66}\n"),
              HasSubstr("divides"));
  EXPECT_THAT(ResolveError("name: a/b\n"), HasSubstr("name"));
  EXPECT_THAT(ResolveError("seed: 2\n"), HasSubstr("name"));
  EXPECT_THAT(ResolveError("name: a\nimages: {split: {column: c, test: 0.5}}\n"), HasSubstr("column"));
  EXPECT_THAT(ResolveError("name: a\nimages: {split: {validation: 1.5}}\n"), HasSubstr("validation"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {optimizer: {rmsprop: {drops: [{epoch: 9, "
                           "learning_rate: 1e-4}, {epoch: 9, learning_rate: 1e-5}]}}}\n"),
              HasSubstr("ascending"));
  EXPECT_THAT(ResolveError("name: a\nexplanation: {methods: [{lime: {samples: 1}}]}\n"),
              HasSubstr("samples"));
}

v1::StudySpec Resolved(std::string_view text) {
  const auto spec = ParseStudyYaml(text, "s.yaml");
  EXPECT_TRUE(spec.ok()) << spec.status();
  const auto resolved = ResolveSpec(*spec);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  return resolved.ok() ? *resolved : v1::StudySpec();
}

TEST(SpecYamlTest, ResNetsStem_FollowsTheImageSizeUnlessItIsNamed) {
  EXPECT_EQ(Resolved("name: a\nimages: {size: 64}\ntraining: {model: resnet18}\n").training().stem(),
            v1::STEM_SMALL);
  const v1::StudySpec large = Resolved("name: a\nimages: {size: 224}\ntraining: {model: resnet50, stem: auto}\n");
  EXPECT_EQ(large.training().stem(), v1::STEM_IMAGENET);
  EXPECT_FALSE(large.training().dropout());
  EXPECT_EQ(Resolved("name: a\nimages: {size: 64}\ntraining: {model: resnet34, stem: imagenet}\n").training().stem(),
            v1::STEM_IMAGENET);
  EXPECT_EQ(Resolved("name: a\n").training().stem(), v1::STEM_UNSPECIFIED);
}

TEST(SpecYamlTest, OptimisersAndSchedules_HaveTheirDefaults_AndAreReadAsWords) {
  const v1::TrainingSpec sgd =
      Resolved("name: a\ntraining: {epochs: 40, optimizer: sgd, schedule: cosine}\n").training();
  EXPECT_EQ(sgd.optimizer().sgd().learning_rate(), 0.01);
  EXPECT_EQ(sgd.optimizer().sgd().momentum(), 0.9);
  EXPECT_EQ(sgd.schedule().cosine().epochs(), 40u);
  EXPECT_EQ(Resolved("name: a\ntraining: {optimizer: adamw}\n").training().optimizer().adamw().beta2(),
            0.999);
  const v1::TrainingSpec weighted =
      Resolved("name: a\ntraining: {class_weights: [1, 2.5], schedule: {step: {every: 3}}}\n").training();
  ASSERT_EQ(weighted.class_weights_size(), 2);
  EXPECT_EQ(weighted.class_weights(1), 2.5);
  EXPECT_EQ(weighted.schedule().step().factor(), 0.1);
  EXPECT_FALSE(Resolved("name: a\n").training().has_schedule());
}

TEST(SpecYamlTest, OptimisersLossesAndWeights_RefuseWhatMakesNoSense) {
  EXPECT_THAT(ResolveError("name: a\ntraining: {optimizer: {sgd: {momentum: 0, nesterov: true}}}\n"),
              HasSubstr("momentum above 0"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {optimizer: {adamw: {beta1: 1}}}\n"), HasSubstr("beta1"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {epochs: 9, schedule: {warmup_epochs: 9, cosine: {}}}\n"),
              HasSubstr("after warmup_epochs"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {class_weights: [1, 2], balance_classes: true}\n"),
              HasSubstr("excludes"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {class_weights: [1, -2]}\n"), HasSubstr("class_weights"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {init: {file: w.safetensors}}\n"), HasSubstr("dermis run"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {init: {digest: abc}}\n"), HasSubstr("64 hex"));
  const std::string digest(64, 'a');
  EXPECT_THAT(ResolveError(absl::StrCat("name: a\ntraining: {model: resnet18, init: {digest: ", digest,
                                        ", frozen_before: layer}}\n")),
              HasSubstr("layer1"));
  EXPECT_THAT(
      ResolveError(absl::StrCat("name: a\ntraining: {init: {digest: ", digest, ", frozen_before: fc}}\n")),
      HasSubstr("ResNets"));
}

TEST(SpecYamlTest, SizesThatTheNetworkCannotTake_AreRefused) {
  EXPECT_THAT(ResolveError("name: a\nimages: {size: 232}\n"), AllOf(HasSubstr("images.size"), HasSubstr("224")));
  EXPECT_THAT(ResolveError("name: a\nimages: {size: 100}\ntraining: {model: resnet18}\n"),
              AllOf(HasSubstr("images.size"), HasSubstr("multiple of 32")));
  EXPECT_THAT(ResolveError("name: a\nimages: {size: 36}\ntraining: {model: resnet18}\n"), HasSubstr("multiple of 8"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {stem: small}\n"), HasSubstr("stem"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {model: resnet18, dropout: true}\n"), HasSubstr("dropout"));
}

TEST(SpecYamlTest, Augmentation_FillsItsDefaultsAndCarriesWhatIsGiven) {
  const v1::AugmentationSpec augmentation =
      Resolved("name: a\ntraining: {augmentation: {hue: 0.1, crop: {min_area: 0.5}}}\n").training().augmentation();
  EXPECT_EQ(augmentation.rotation(), 15);
  EXPECT_EQ(augmentation.shift(), 0.1);
  EXPECT_TRUE(augmentation.horizontal_flip());
  EXPECT_TRUE(augmentation.has_vertical_flip() && !augmentation.vertical_flip());
  EXPECT_EQ(augmentation.hue(), 0.1);
  EXPECT_EQ(augmentation.crop().min_area(), 0.5);
  EXPECT_EQ(augmentation.crop().max_area(), 1);
  EXPECT_EQ(augmentation.crop().min_aspect(), 3.0 / 4);
  EXPECT_EQ(augmentation.crop().max_aspect(), 4.0 / 3);
}

TEST(SpecYamlTest, AugmentationThatSpellsOutItsDefaults_IsTheStudyWithoutIt) {
  for (const char* text : {"{}", "{rotation: 15}", "{shift: 0.1, horizontal_flip: true, scale: 0}"}) {
    const v1::StudySpec spec = Resolved(absl::StrCat("name: a\ntraining: {augmentation: ", text, "}\n"));
    EXPECT_TRUE(MessageDifferencer::Equals(spec, Resolved("name: a\n"))) << text;
  }
  EXPECT_TRUE(Resolved("name: a\ntraining: {augmentation: {crop: {}}}\n").training().has_augmentation());
}

TEST(SpecYamlTest, ShuffleWindow_HoldsABatchAtLeast_AndIsAbsentByDefault) {
  EXPECT_FALSE(Resolved("name: a\n").training().has_shuffle_window());
  // Said or not, the ordered reduction is one study.
  EXPECT_EQ(Resolved("name: a\ntraining: {reduction: ordered}\n").SerializeAsString(),
            Resolved("name: a\ntraining: {}\n").SerializeAsString());
  EXPECT_EQ(Resolved("name: a\ntraining: {reduction: fast}\n").training().reduction(),
            v1::REDUCTION_FAST);
  EXPECT_EQ(Resolved("name: a\ntraining: {shuffle_window: 64}\n").training().shuffle_window(), 64u);
  EXPECT_THAT(ResolveError("name: a\ntraining: {shuffle_window: 63}\n"),
              HasSubstr("shuffle_window"));
  EXPECT_THAT(ResolveError("name: a\ntraining: {batch_size: 128, shuffle_window: 64}\n"),
              HasSubstr("from 128"));
}

TEST(SpecYamlTest, AugmentationThatCannotBe_IsRefused) {
  const auto error = [](const char* text) {
    return ResolveError(absl::StrCat("name: a\ntraining: {augmentation: ", text, "}\n"));
  };
  EXPECT_THAT(ResolveError("name: a\ntraining: {augment: false, augmentation: {hue: 0.1}}\n"),
              AllOf(HasSubstr("training.augmentation"), HasSubstr("remove")));
  EXPECT_THAT(error("{rotation: 181}"), AllOf(HasSubstr("rotation"), HasSubstr("180")));
  EXPECT_THAT(error("{shift: -0.1}"), HasSubstr("shift"));
  EXPECT_THAT(error("{scale: 1}"), HasSubstr("scale"));
  EXPECT_THAT(error("{shear: 90}"), HasSubstr("shear"));
  EXPECT_THAT(error("{brightness: -1}"), HasSubstr("brightness"));
  EXPECT_THAT(error("{contrast: 11}"), HasSubstr("contrast"));
  EXPECT_THAT(error("{saturation: 11}"), HasSubstr("saturation"));
  EXPECT_THAT(error("{hue: 0.6}"), HasSubstr("hue"));
  EXPECT_THAT(error("{crop: {min_area: 0}}"), HasSubstr("crop.min_area"));
  EXPECT_THAT(error("{crop: {min_area: 0.5, max_area: 0.4}}"), HasSubstr("crop.min_area"));
  EXPECT_THAT(error("{crop: {min_aspect: 2, max_aspect: 1}}"), HasSubstr("crop.min_aspect"));
  EXPECT_THAT(error("{crop: {min_aspect: 2, max_aspect: 3}}"), AllOf(HasSubstr("crop.max_area"), HasSubstr("0.5")));
  EXPECT_EQ(error("{crop: {min_aspect: 2, max_aspect: 3, max_area: 0.5}}"), "");
}

TEST(SpecYamlTest, EveryStudyOfTheTree_Parses_Resolves_AndReadsBack) {
  const char* root = std::getenv("DERMIS_SOURCE_DIR");
  int seen = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(root ? root : ".") / "studies")) {
    if (entry.path().extension() != ".yaml") continue;
    ++seen;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const auto spec = ParseStudyYaml(text.str(), entry.path().string());
    ASSERT_TRUE(spec.ok()) << spec.status();
    const auto resolved = ResolveSpec(*spec);
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    EXPECT_TRUE(MessageDifferencer::Equals(*ResolveSpec(*resolved), *resolved)) << entry.path();
    const auto back = ParseStudyYaml(ToYaml(*resolved), "printed");
    ASSERT_TRUE(back.ok()) << back.status() << "\n" << ToYaml(*resolved);
    EXPECT_TRUE(MessageDifferencer::Equals(*back, *resolved)) << ToYaml(*resolved);
    EXPECT_EQ(ToYaml(*resolved).find("00000001"), std::string::npos) << "numbers are printed shortest";
  }
  EXPECT_GE(seen, 2);
}

TEST(SpecYamlTest, LesionTestAndShortcutCheck_HaveDefaults) {
  const v1::ExplanationSpec explanation =
      Resolved("name: a\nimages: {set: x}\nexplanation: {lesion_test: {}, shortcut: {}}\n").explanation();
  const v1::LesionTestSpec& test = explanation.lesion_test();
  EXPECT_EQ(test.primary(), v1::LESION_HYPOTHESIS_BANDS_OVER_CORE);
  EXPECT_EQ(test.against(), v1::LESION_NULL_SHIFTED);
  EXPECT_EQ(test.band(), 0.1);
  EXPECT_EQ(test.hidden(), v1::HIDDEN_VALUE_TRAINING_MEAN);
  ASSERT_EQ(explanation.shortcut().hidden_size(), 2);
  EXPECT_EQ(explanation.shortcut().draws(), 2000u);
  EXPECT_FALSE(Resolved("name: a\nimages: {set: x}\nexplanation: {}\n").explanation().has_lesion_test());
}

TEST(SpecYamlTest, Superpixels_AreOneOfFive_AtOneOfTwoSizes) {
  const auto first = [](const std::string& superpixels) {
    return Resolved("name: a\nimages: {set: x}\nexplanation: {methods: [{shapley: {superpixels: " + superpixels + "}}]}\n")
        .explanation().methods(0).shapley().superpixels();
  };
  EXPECT_EQ(first("{grid: {rows: 3}}").grid().columns(), 3u);
  EXPECT_EQ(first("{lesion_zones: {}}").lesion_zones().band(), 0.1);
  EXPECT_TRUE(first("{label_map: {}}").has_label_map());
  EXPECT_EQ(first("{slic: {}, resolution: model}").resolution(), v1::RESOLUTION_MODEL);
  // As it was before there was a choice: addresses stay.
  EXPECT_EQ(first("{slic: {}, resolution: display}").resolution(), v1::RESOLUTION_UNSPECIFIED);
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x}\nexplanation: {methods: [{lime: {superpixels: {grid: {rows: 1}}}}]}\n"),
              HasSubstr("superpixels.grid"));
}

TEST(SpecYamlTest, HiddenParts_NeedARegion_MasksAndNoExplanation) {
  const v1::StudySpec spec = Resolved("name: a\nimages: {set: x, hide: {show: lesion}}\n");
  EXPECT_EQ(spec.images().hide().hidden(), v1::HIDDEN_VALUE_TRAINING_MEAN);
  EXPECT_TRUE(spec.images().split().masked_only());
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x, hide: {}}\n"), HasSubstr("images.hide.show"));
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x, hide: {show: box, hidden: background}}\n"),
              HasSubstr("images.hide.hidden"));
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x, hide: {show: box}}\nexplanation: {}\n"),
              HasSubstr("leave one of them out"));
}

TEST(SpecYamlTest, Hiding_IsThereWhereAValueNeedsIt) {
  const auto has_hiding = [](const std::string& explanation) {
    return Resolved("name: a\nimages: {set: x}\nexplanation: {" + explanation + "}\n")
        .explanation()
        .has_hiding();
  };
  EXPECT_FALSE(has_hiding("methods: [{lime: {hidden: inpaint}}]"));
  EXPECT_TRUE(has_hiding("methods: [{lime: {hidden: blur}}]"));
  EXPECT_TRUE(has_hiding("methods: [{occlusion: {hidden: constant}}]"));
  EXPECT_TRUE(has_hiding("shortcut: {}"));
  EXPECT_TRUE(has_hiding("lesion_test: {hidden: background}"));
  EXPECT_TRUE(has_hiding("checks: {hidden: blur}"));
}

TEST(SpecYamlTest, Hiding_IsChecked) {
  const v1::HidingSpec hiding =
      Resolved("name: a\nimages: {set: x}\nexplanation: {hiding: {color: [1, 2, 3.5]}}\n").explanation().hiding();
  EXPECT_EQ(hiding.color(2), 3.5);
  EXPECT_EQ(hiding.blur(), 0.1);
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x}\nexplanation: {hiding: {color: [1, 2]}}\n"),
              HasSubstr("three numbers"));
  EXPECT_THAT(ResolveError("name: a\nimages: {set: x}\nexplanation: {hiding: {blur: 0}}\n"),
              HasSubstr("explanation.hiding.blur"));
}

TEST(SpecYamlTest, AFileOf100Megabytes_IsRefusedBeforeItIsParsed) {
  const absl::Status refused = ParseStudyYaml(std::string(100'000'000, '['), "s.yaml").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("s.yaml: a study file has at most 1 MiB"));
}

// gRPC would refuse the message without a word of why.
TEST(SpecYamlTest, TextThatIsNotUtf8_IsRefusedWithItsPlace) {
  const absl::Status refused =
      ParseStudyYaml("name: a\nimages: {set: caf\xe9, size: 32}\n", "s.yaml").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("s.yaml:2:"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("'images.set' is not UTF-8"));
}

}  // namespace
}  // namespace dermis
