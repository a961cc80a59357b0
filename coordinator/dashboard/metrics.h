// The cluster's numbers for Prometheus, in its text format (version 0.0.4). docs/dashboard.md lists
// them.
#ifndef DERMIS_COORDINATOR_DASHBOARD_METRICS_H_
#define DERMIS_COORDINATOR_DASHBOARD_METRICS_H_

#include <string>

#include "absl/time/time.h"

#include "coordinator/dashboard/snapshot.h"

namespace dermis {

inline constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

std::string MetricsOf(const Snapshot& snapshot, absl::Time now);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_METRICS_H_
