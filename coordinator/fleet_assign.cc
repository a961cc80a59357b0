// What the scheduler's plan becomes: gangs with their seats, bundles of units.
#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/log.h"
#include "common/reduce_tree.h"
#include "common/tasks.h"
#include "coordinator/fleet.h"
#include "coordinator/scheduler.h"

namespace dermis {

uint64_t Fleet::NewAssignment() {
  uint64_t id;
  do {
    id = (studies_.state().incarnation() << 32) | ++assignment_counter_;
  } while (assignments_.contains(id));  // Adopted, where the store is an older copy.
  return id;
}

std::set<uint32_t>::const_iterator Fleet::FirstWaiting(const Study& study) {
  const SweepPlanner& sweep = study.run->sweep();
  Front& front = fronts_[study.id];
  if (front.run != study.run.get() || front.added != sweep.added()) {
    front = {study.run.get(), sweep.added(), 0};
  }
  auto first = sweep.active().lower_bound(front.training);
  for (; first != sweep.active().end(); ++first) {
    ++studies_.counters().looks;
    front.training = *first;
    const auto work = works_.find(sweep.training(*first).digest);
    if (work == works_.end() || work->second.assignment == 0) break;
  }
  return first;
}

bool Fleet::Assign(absl::Duration now) {
  const bool yields = std::exchange(check_yields_, false);
  const std::pair<uint64_t, uint64_t> changes(studies_.changes(), freed_);
  if (idle_.empty() && !yields) return false;
  // What comes with time (back-offs, patience) is seen at the next Look.
  if (!yields && fruitless_ == changes) return false;
  uint64_t& looks = studies_.counters().looks;
  // Of studies that began anew: another run may have the address, and as many trainings, as the one before it.
  if (yields) fronts_.clear();

  Cluster cluster;
  std::vector<Study*> studies;
  std::vector<Digest> recipes;
  cluster.bundle_seconds = absl::ToDoubleSeconds(options_.bundle);
  cluster.max_bundle = options_.max_bundle;
  std::vector<std::pair<uint64_t, std::string>> order;
  double highest = 0;
  looks += studies_.all().size();
  for (const auto& [id, study] : studies_.all()) {
    const StudyRecord& record = studies_.state().studies().at(id);
    if (!record.paused && (study->waiting > 0 || studies_.Training(*study))) {
      order.emplace_back(record.order, id);
      highest = std::max(highest, record.priority);
    } else {
      study->hungry_since.reset();
    }
  }
  std::sort(order.begin(), order.end());
  // Of a sweep's trainings that wait, no more are looked at than could start now.
  size_t most = 0;
  for (const auto& [numerics_class, names] : idle_) most += names.size();
  std::set<Digest> seen;
  for (const auto& [position, id] : order) {
    Study& study = *studies_.all().at(id);
    const size_t index = studies.size();
    studies.push_back(&study);
    Cluster::Study view;
    view.numerics_class = studies_.state().studies().at(id).numerics_class;
    view.priority = studies_.state().studies().at(id).priority;
    view.used = study.used;
    view.waiting_units = study.waiting;
    view.unit_seconds = UnitSeconds(study);
    view.workers = study.workers;
    bool runnable = study.waiting > 0, served = study.workers > 0;
    const auto add = [&](const SweepPlanner::Training& training) {
      Cluster::Trial out;
      out.study = index;
      out.shards = training.recipe.logical_shards();
      const RecipeWork& work = works_[training.digest];
      out.avoid = work.avoid;
      const LossRecord* losses = studies_.state().LossesOf(training.digest);
      // A gang that failed to form again and again (ports that are closed, say) is tried as one worker.
      out.alone = work.back_offs >= kPoison ||
                  (losses != nullptr && (losses->shared >= kPoison || losses->alone > 0));
      if (work.assignment != 0) {
        const Assignment& gang = assignments_.at(work.assignment);
        out.world = static_cast<uint32_t>(gang.members.size());
        out.may_yield = !gang.yielding && !gang.doomed && gang.members.size() == gang.world &&
                        now - gang.started >= options_.regroup_after;
        out.had_turn = gang.under_way &&
                       now - *gang.under_way >= options_.turn * (*gang.under_way - gang.started);
      } else {
        out.waiting = true;
      }
      cluster.trials.push_back(std::move(out));
      recipes.push_back(training.digest);
    };
    if (studies_.Training(study)) {
      const SweepPlanner& sweep = study.run->sweep();
      // Those that run matter to who yields, and to whether anybody serves the study.
      for (const uint64_t gang : gangs_) {
        if (served && !yields) break;
        ++looks;
        const Digest& recipe = assignments_.at(gang).recipe;
        const SweepPlanner::Training* training = sweep.FindActive(recipe);
        if (training == nullptr) continue;
        served = true;  // By itself, or by another study that trains the same.
        if (yields && seen.insert(recipe).second) add(*training);
      }
      size_t waiting = 0;
      for (auto k = FirstWaiting(study); k != sweep.active().end(); ++k) {
        ++looks;
        const SweepPlanner::Training& training = sweep.training(*k);
        const auto work = works_.find(training.digest);
        if (work != works_.end() &&
            (work->second.assignment != 0 || work->second.not_before > now)) {
          continue;
        }
        runnable = true;
        if (waiting == most) break;
        // One that avoids workers may find none: it does not stand in the way of others.
        if (work == works_.end() || work->second.avoid.empty()) ++waiting;
        if (seen.insert(training.digest).second) add(training);
      }
    }
    if (runnable && !served) {
      if (!study.hungry_since) study.hungry_since = now;
    } else {
      study.hungry_since.reset();
    }
    // Gangs hold their workers until someone starves: so patience, too, goes by priority.
    view.starved = study.hungry_since && now - *study.hungry_since >
                                             options_.starved_after * (highest / view.priority);
    cluster.studies.push_back(std::move(view));
  }
  if (cluster.studies.empty() || workers_.empty()) {
    fruitless_ = changes;
    return false;
  }
  // As many of the free ones as there may be something for: whether there are more is all the same.
  std::map<std::string, uint64_t> wanted;
  for (const Cluster::Study& study : cluster.studies) wanted[study.numerics_class] += study.waiting_units;
  for (const Cluster::Trial& trial : cluster.trials) {
    wanted[cluster.studies[trial.study].numerics_class] += std::max(1u, trial.shards) + trial.avoid.size();
  }
  std::vector<std::string> names;
  const std::set<std::string> suspects = Suspects();
  std::map<std::string, uint32_t> sound = classes_;
  for (const std::string& name : suspects) --sound[workers_.at(name).hello.numerics_class()];
  std::map<std::string, uint32_t> unlisted = sound;  // Sound ones that are busy, or not needed.
  for (const auto& [numerics_class, most_of_it] : wanted) {
    const auto idle = idle_.find(numerics_class);
    if (idle == idle_.end()) continue;
    uint64_t listed = 0;
    for (const std::string& name : idle->second) {
      if (!yields && listed == most_of_it) break;
      ++looks;
      if (!Free(workers_.at(name))) continue;
      const bool suspect = suspects.contains(name);
      names.push_back(name);
      cluster.workers.push_back({name, numerics_class, true, suspect});
      if (suspect) continue;  // It may not be used.
      ++listed;
      --unlisted[numerics_class];
    }
  }
  if (names.empty() && !yields) {
    fruitless_ = changes;
    return false;
  }
  cluster.busy = workers_.size() - names.size();
  for (const auto& [numerics_class, count] : unlisted) {
    if (count > 0) cluster.sound_busy.insert(numerics_class);
  }
  for (Cluster::Trial& trial : cluster.trials) {
    if (trial.avoid.empty()) continue;
    const std::string& numerics_class = cluster.studies[trial.study].numerics_class;
    uint32_t others = unlisted[numerics_class];
    for (const std::string& name : trial.avoid) {
      const auto it = workers_.find(name);
      if (it != workers_.end() && !suspects.contains(name) &&
          it->second.hello.numerics_class() == numerics_class &&
          std::find(names.begin(), names.end(), name) == names.end()) {
        --others;
      }
    }
    trial.other_busy = others > 0;
  }
  if (!yields && studies.size() == 1 && cluster.trials.empty() && studies_.Training(*studies[0])) {
    looks += gangs_.size();
    cluster.running = static_cast<size_t>(std::count_if(gangs_.begin(), gangs_.end(), [&](uint64_t gang) {
      return studies[0]->run->sweep().FindActive(assignments_.at(gang).recipe) != nullptr;
    }));
  }

  const Plan plan = Schedule(cluster);
  looks += plan.looks;
  for (size_t t : plan.yields) {
    Yield(assignments_.at(works_.at(recipes[t]).assignment),
              "its workers are wanted for a larger gang or another study");
  }
  bool assigned = false;
  for (const Plan::Gang& gang : plan.gangs) {
    std::vector<std::string> members;
    for (size_t w : gang.workers) members.push_back(names[w]);
    assigned |=
        StartGang(recipes[gang.trial], *studies[cluster.trials[gang.trial].study], members, now);
  }
  const auto others = [&](size_t w) {
    return sound[cluster.workers[w].numerics_class] > (cluster.workers[w].suspect ? 0u : 1u);
  };
  for (const Plan::Bundle& bundle : plan.bundles) {
    Study& study = *studies[bundle.study];
    if (StartBundle(study, names[bundle.worker], bundle.units, others(bundle.worker), now)) {
      assigned = true;
      continue;
    }
    // What is left is not for that worker (it just failed it): another one that is free.
    for (size_t w = 0; w < names.size(); ++w) {
      ++looks;
      const Worker& other = workers_.at(names[w]);
      if (Free(other) && !cluster.workers[w].suspect &&
          other.hello.numerics_class() == cluster.studies[bundle.study].numerics_class &&
          StartBundle(study, names[w], bundle.units, others(w), now)) {
        assigned = true;
        break;
      }
    }
  }
  if (!assigned) fruitless_ = changes;
  return assigned && !plan.bundles.empty();
}

double Fleet::UnitSeconds(Study& study) {
  while (!study.queue.empty()) {
    auto it = studies_.units().find(study.queue.front());
    if (it != studies_.units().end() && it->second.waiting &&
        it->second.studies.contains(study.id)) {
      auto known = unit_seconds_.find(it->second.spec.kind_case());
      return known == unit_seconds_.end() ? 0.1 : known->second;
    }
    study.queue.pop_front();
  }
  return 0.1;
}

bool Fleet::StartBundle(Study& study, const std::string& name, uint32_t units, bool others,
                        absl::Duration now) {
  const Worker& worker = workers_.at(name);
  if (worker.assignment != 0) return false;  // It took another's leavings in this round.
  std::vector<Digest> tasks, skipped;
  v1::TaskSpec::KindCase kind = v1::TaskSpec::KIND_NOT_SET;
  while (tasks.size() < units && !study.queue.empty() && skipped.size() < 64) {
    const Digest task = study.queue.front();
    auto it = studies_.units().find(task);
    if (it == studies_.units().end() || !it->second.waiting ||
        !it->second.studies.contains(study.id)) {
      study.queue.pop_front();
      continue;
    }
    Unit& unit = it->second;
    if (others && now < unit.avoid_until && unit.avoid.contains(name)) {
      study.queue.pop_front();
      skipped.push_back(task);
      continue;
    }
    const LossRecord* losses = studies_.state().LossesOf(task);
    const bool single = unit.single || losses != nullptr;
    if (!tasks.empty() && (single || unit.spec.kind_case() != kind)) break;
    study.queue.pop_front();
    kind = unit.spec.kind_case();
    studies_.SetWaiting(unit, false);
    tasks.push_back(task);
    if (single) break;
  }
  for (auto it = skipped.rbegin(); it != skipped.rend(); ++it) study.queue.push_front(*it);
  if (tasks.empty()) return false;

  std::vector<const v1::TaskSpec*> specs;
  for (const Digest& task : tasks) specs.push_back(&studies_.units().at(task).spec);
  const Assignment& bundle = SendUnits(study, name, std::move(tasks), specs, now);
  for (const Digest& task : bundle.tasks) studies_.units().at(task).assignment = bundle.id;
  return true;
}

Assignment& Fleet::SendUnits(Study& study, const std::string& name, std::vector<Digest> tasks,
                             absl::Span<const v1::TaskSpec* const> specs, absl::Duration now) {
  const uint64_t id = NewAssignment();
  Assignment& bundle = assignments_[id];
  bundle.id = id;
  bundle.study = study.id;
  bundle.started = now;
  bundle.worker = name;
  bundle.kind = specs[0]->kind_case();
  bundle.tasks = std::move(tasks);
  v1::Directive directive;
  directive.mutable_assign()->set_assignment(id);
  for (const v1::TaskSpec* spec : specs) {
    *directive.mutable_assign()->mutable_bundle()->add_tasks() = *spec;
  }
  Worker& worker = workers_.at(name);
  Occupy(worker, id, now);
  ++study.workers;
  ++study.version;
  batch_.Send(worker.connection, std::move(directive));
  return bundle;
}

bool Fleet::StartGang(const Digest& recipe, Study& study, const std::vector<std::string>& members,
                      absl::Duration now) {
  const SweepPlanner::Training& training = *study.run->sweep().FindActive(recipe);
  const TrainingPlanner& planner = training.planner;
  // From the greatest stored state that does not lie beyond the goal and whose blob is there.
  const uint64_t limit = planner.target_step().value_or(planner.last_step());
  uint64_t start_step = 0;
  std::string start_state;
  if (const std::map<uint64_t, Digest>* states = studies_.state().StatesOf(recipe)) {
    for (auto it = states->upper_bound(limit); it != states->begin();) {
      --it;
      absl::StatusOr<v1::TrainOutput> output = studies_.ReadState(recipe, it->first);
      if (!output.ok() || output->state().empty()) continue;
      absl::StatusOr<Digest> blob = Digest::FromBytes(output->state());
      if (!blob.ok()) continue;
      if (!blobs_.Has(*blob)) {
        studies_.NoticeLost(*blob);
        continue;
      }
      start_step = it->first;
      start_state = output->state();
      break;
    }
  }
  v1::TrainGoal goal = planner.goal();
  // Others that train the same recipe for fewer epochs: their states are stored on the way.
  std::set<uint64_t> exact(goal.exact_steps().begin(), goal.exact_steps().end());
  for (const std::string& id : studies_.Wanting(recipe)) {
    const SweepPlanner& sweep = studies_.all().at(id)->run->sweep();
    for (uint32_t k : *sweep.Find(recipe)) {
      if (!sweep.active().contains(k)) continue;
      const v1::TrainGoal other = sweep.training(k).planner.goal();
      exact.insert(other.exact_steps().begin(), other.exact_steps().end());
    }
  }
  goal.clear_exact_steps();
  for (uint64_t step : exact) {
    if (step > start_step && step <= goal.max_epochs() * planner.steps_per_epoch()) {
      goal.add_exact_steps(step);
    }
  }

  const uint64_t id = NewAssignment();
  Assignment& gang = assignments_[id];
  gang.id = id;
  gang.gang = true;
  gangs_.insert(id);
  gang.study = study.id;
  gang.started = now;
  gang.recipe = recipe;
  gang.generation.set_incarnation(studies_.state().incarnation());
  gang.generation.set_counter(assignment_counter_);
  gang.members.insert(members.begin(), members.end());
  gang.world = static_cast<uint32_t>(members.size());
  gang.states_before = studies_.state().StatesStored(recipe);
  gang.step = start_step;
  works_[recipe].assignment = id;

  v1::GangSeat seat;
  *seat.mutable_generation() = gang.generation;
  const std::vector<ShardRange> shards = AssignShards(training.recipe.logical_shards(), gang.world);
  for (uint32_t rank = 0; rank < gang.world; ++rank) {
    const v1::Register& hello = workers_.at(members[rank]).hello;
    v1::GangMember& member = *seat.add_roster();
    member.set_worker(members[rank]);
    member.set_peer_address(hello.peer_address());
    member.set_peer_socket(hello.peer_socket());
    member.set_host(hello.host());
    member.set_first_shard(shards[rank].first);
    member.set_shards(shards[rank].count);
    gang.ranks[members[rank]] = rank;
  }
  *seat.mutable_recipe() = training.recipe;
  seat.set_numerics_class(studies_.state().studies().at(study.id).numerics_class);
  seat.set_start_step(start_step);
  seat.set_start_state(start_state);
  *seat.mutable_goal() = goal;
  seat.set_segment_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(options_.segment)));
  for (uint32_t rank = 0; rank < gang.world; ++rank) {
    Worker& worker = workers_.at(members[rank]);
    Occupy(worker, id, now);
    ++study.workers;
    v1::Directive directive;
    directive.mutable_assign()->set_assignment(id);
    *directive.mutable_assign()->mutable_gang() = seat;
    directive.mutable_assign()->mutable_gang()->set_rank(rank);
    batch_.Send(worker.connection, std::move(directive));
  }
  ++study.version;
  DERMIS_LOG(kInfo, "study ", study.id, ": trains ", recipe.short_hex(), " from step ", start_step,
             " on ", absl::StrJoin(members, ", "));
  return true;
}

}  // namespace dermis
