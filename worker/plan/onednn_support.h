// What plans of oneDNN primitives share. For .cc files of this folder.
#ifndef DERMIS_WORKER_PLAN_ONEDNN_SUPPORT_H_
#define DERMIS_WORKER_PLAN_ONEDNN_SUPPORT_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include <omp.h>

#include "common/progress.h"
#include "dermis/v1/spec.pb.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "worker/plan/inference_plan.h"
#include "worker/plan/max_pool.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace dermis {

inline constexpr auto kAny = dnnl::memory::format_tag::any;
inline constexpr auto kNhwc = dnnl::memory::format_tag::nhwc;

// Debian's oneDNN computes with OpenMP; a plan is one thread, in creation (blocking is chosen by
// the number of threads) as in execution. Denormals are flushed: they cost twenty times a normal
// number. Both are set in every call, so that bits do not depend on who calls.
class ComputeScope {
 public:
  ComputeScope() : threads_(omp_get_max_threads()) {
    omp_set_num_threads(1);
#if defined(__x86_64__)
    control_ = _mm_getcsr();
    _mm_setcsr(control_ | 0x8040u);  // Flush to zero, denormals are zero.
#endif
  }
  ~ComputeScope() {
#if defined(__x86_64__)
    _mm_setcsr(control_);
#endif
    omp_set_num_threads(threads_);
  }
  ComputeScope(const ComputeScope&) = delete;
  ComputeScope& operator=(const ComputeScope&) = delete;

 private:
  int threads_;
  unsigned control_ = 0;
};

// Round to nearest even on the upper 16 bits, as bf16 conversion does; inputs are finite.
inline float RoundToBf16(float v) {
  uint32_t bits = std::bit_cast<uint32_t>(v);
  bits += 0x7FFFu + ((bits >> 16) & 1u);
  return std::bit_cast<float>(bits & 0xFFFF0000u);
}

inline void RoundToBf16(absl::Span<float> values) {
  for (float& v : values) v = RoundToBf16(v);
}

// Sixteen partial sums, then their sum in order: fixed, and the compiler may vectorise it.
inline float Dot(const float* a, const float* b, size_t n) {
  float partial[16] = {};
  for (size_t i = 0; i < n; i += 16) {
    for (size_t j = 0; j < 16; ++j) partial[j] += a[i + j] * b[i + j];
  }
  float sum = 0;
  for (float p : partial) sum += p;
  return sum;
}

// A plan that is ready to run. INTERNAL: oneDNN has no engine here, or what Plan::Prepare says.
template <typename Plan, typename Weights>
absl::StatusOr<std::unique_ptr<InferencePlan>> MakePrepared(const Weights& weights,
                                                            v1::Precision precision) {
  std::unique_ptr<Plan> plan;
  try {
    plan = std::make_unique<Plan>(weights, precision);
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN has no CPU engine here: ", error.what()));
  }
  if (absl::Status status = plan->Prepare(); !status.ok()) return status;
  return std::unique_ptr<InferencePlan>(std::move(plan));
}

// Calls `run(first, chunk)` for all of a batch: full chunks, then what is left.
template <typename RunChunk>
absl::Status RunInChunks(uint32_t count, uint32_t most, uint32_t full, RunChunk run) {
  if (count > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("inference plan: batch of ", count, ", at most ", most));
  }
  const ComputeScope scope;
  try {
    for (uint32_t first = 0; first < count; first += full) {
      run(first, std::min(full, count - first));
      NoteProgress();
    }
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("inference plan: oneDNN: ", error.what()));
  }
  return absl::OkStatus();
}

// A step of a network: what it does, and where it leaves what emulated bf16 rounds (nothing where
// it stays in fp32).
struct PlanStep {
  std::function<void(dnnl::stream&)> run;
  dnnl::memory output;
};

inline PlanStep PrimitiveStep(dnnl::primitive primitive,
                              std::unordered_map<int, dnnl::memory> arguments,
                              dnnl::memory output) {
  return {[primitive = std::move(primitive), arguments = std::move(arguments)](
              dnnl::stream& stream) { primitive.execute(stream, arguments); },
          std::move(output)};
}

// Both fp32 or both bf16, NHWC.
inline PlanStep MaxPoolStep(PoolWindow window, const dnnl::memory& from, const dnnl::memory& to) {
  const dnnl::memory::dims dims = from.get_desc().dims();
  const auto images = static_cast<size_t>(dims[0]), channels = static_cast<size_t>(dims[1]),
             side = static_cast<size_t>(dims[2]);
  const void* const in = from.get_data_handle();
  void* const out = to.get_data_handle();
  const bool bf16 = from.get_desc().data_type() == dnnl::memory::data_type::bf16;
  return {[=](dnnl::stream& stream) {
            stream.wait();
            if (bf16) {
              MaxPool(window, images, side, channels, static_cast<const uint16_t*>(in),
                      static_cast<uint16_t*>(out));
            } else {
              MaxPool(window, images, side, channels, static_cast<const float*>(in),
                      static_cast<float*>(out));
            }
          },
          {}};
}

}  // namespace dermis

#endif  // DERMIS_WORKER_PLAN_ONEDNN_SUPPORT_H_
