#include "tools/dermis/black_box.h"

#include "common/spec_yaml.h"
#include "common/status_macros.h"

namespace dermis {

void AddBlackBoxOptions(CLI::App& command, BlackBoxOptions& options) {
  command.add_option("--size", options.size, "The model's input, pixels a side")
      ->capture_default_str()
      ->group(kBlackBoxGroup);
  command.add_option("--range", options.range, "Value of a white pixel, before mean and deviation")
      ->capture_default_str()
      ->group(kBlackBoxGroup);
  command.add_option("--mean", options.mean, "Subtracted: one or three numbers")
      ->expected(1, 3)
      ->group(kBlackBoxGroup);
  command.add_option("--deviation", options.deviation, "Then divided by: one or three numbers")
      ->expected(1, 3)
      ->group(kBlackBoxGroup);
  command.add_option("--channels", options.channels, "Order of the channels: rgb or bgr")
      ->capture_default_str()
      ->group(kBlackBoxGroup);
  command
      .add_flag("--probabilities", options.probabilities,
                "Its outputs are probabilities, not logits")
      ->group(kBlackBoxGroup);
}

absl::Status FillBlackBox(const BlackBoxOptions& options, const std::vector<std::string>& classes,
                          v1::StudySpec& spec) {
  v1::ModelInputSpec& input = *spec.mutable_model()->mutable_input();
  input.set_range(options.range);
  input.mutable_mean()->Assign(options.mean.begin(), options.mean.end());
  input.mutable_deviation()->Assign(options.deviation.begin(), options.deviation.end());
  RETURN_IF_ERROR(SetByKey(spec, "model.input.channels", options.channels));
  if (options.probabilities) spec.mutable_model()->set_outputs(v1::MODEL_OUTPUTS_PROBABILITIES);
  for (const std::string& name : classes) spec.mutable_model()->add_classes(name);
  spec.mutable_images()->set_size(options.size);
  return absl::OkStatus();
}

}  // namespace dermis
