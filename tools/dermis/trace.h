// A study's attempts as a trace: who ran what, when. For ui.perfetto.dev and chrome://tracing.
#ifndef DERMIS_TOOLS_DERMIS_TRACE_H_
#define DERMIS_TOOLS_DERMIS_TRACE_H_

#include <string>

#include "absl/types/span.h"

#include "dermis/v1/studies.pb.h"

namespace dermis {

// Trace Event Format, JSON. Each worker is a process, its attempts that overlap lie on threads of
// their own; a gang's attempt stands at each of its workers. Losses and failures are instants at
// their worker; what people did to the study is a process of its own.
std::string TraceJson(const std::string& study, absl::Span<const v1::HistoryEvent> events);

}  // namespace dermis

#endif  // DERMIS_TOOLS_DERMIS_TRACE_H_
