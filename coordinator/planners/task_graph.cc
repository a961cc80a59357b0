#include "coordinator/planners/task_graph.h"

namespace dermis {

void TaskGraph::Add(const Digest& task, v1::TaskSpec spec, const std::vector<Digest>& needs,
                    Wants& wants) {
  for (const Digest& need : needs) nodes_.at(need).dependents.push_back(task);
  Node& node = nodes_[task];
  node.waits_for = static_cast<uint32_t>(needs.size());
  if (needs.empty()) {
    wants.emplace_back(task, std::move(spec));
  } else {
    node.spec = std::move(spec);
  }
}

TaskGraph::Wants TaskGraph::OnDone(const Digest& task) {
  Wants wants;
  const auto it = nodes_.find(task);
  if (it == nodes_.end() || it->second.done) return wants;
  it->second.done = true;
  ++done_;
  for (const Digest& dependent : std::exchange(it->second.dependents, {})) {
    Node& node = nodes_.at(dependent);
    if (--node.waits_for > 0) continue;
    wants.emplace_back(dependent, std::move(node.spec));
    node.spec.Clear();
  }
  return wants;
}

}  // namespace dermis
