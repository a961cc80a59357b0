#include "tools/bench/network_plan.h"

#include "worker/models/model.h"

namespace dermis::bench {

std::string MakeWeights(const Network& network) {
  Model model;
  auto layout = LayoutOf(network.kind, network.size, 2, network.stem);
  if (!layout.ok()) Die(layout.status().ToString());
  model.layout = *layout;
  model.parameters.resize(layout->parameter_count);
  model.statistics.resize(layout->statistic_count);
  InitializeModel(1, model);
  model.pixel_mean = 127.5;
  model.pixel_deviation = 73.9;
  return SerializeModel(model);
}

std::unique_ptr<InferencePlan> MakePlan(const Network& network, v1::Precision precision) {
  auto plan = MakeInferencePlan(network.kind, MakeWeights(network), network.size, precision);
  if (!plan.ok()) Die(plan.status().ToString());
  for (size_t i = 0; i < size_t{(*plan)->max_batch()} * network.size * network.size * 3; ++i) {
    (*plan)->input()[i] = static_cast<float>(i % 255) / 127.0f - 1.0f;
  }
  return *std::move(plan);
}

}  // namespace dermis::bench
