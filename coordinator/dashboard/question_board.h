// "Explain this image" for browsers: a picture comes in, its answer is fetched piece by piece. All
// in memory; a question that nobody looks at for a while is dropped.
#ifndef DERMIS_COORDINATOR_DASHBOARD_QUESTION_BOARD_H_
#define DERMIS_COORDINATOR_DASHBOARD_QUESTION_BOARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "coordinator/dashboard/decoder.h"
#include "coordinator/services/question_desk.h"
#include "dermis/v1/image_set.pb.h"

namespace dermis {

// Thread-safe.
class QuestionBoard {
 public:
  static constexpr uint32_t kMostFile = 20 << 20;  // Bytes.
  static constexpr absl::Duration kUnseen = absl::Minutes(2);  // Hidden pages look once a minute.
  static constexpr size_t kAtOnce = 16;

  // Both outlive this; the desk's hearers hold what they need of it themselves.
  QuestionBoard(QuestionDesk& desk, Decoder& decoder);
  ~QuestionBoard();
  QuestionBoard(const QuestionBoard&) = delete;
  QuestionBoard& operator=(const QuestionBoard&) = delete;

  // Gives the question's name, which nobody can guess. `manifest`: of the study's image set. Errors
  // of the decoder; RESOURCE_EXHAUSTED. What the desk refuses is the question's end.
  absl::StatusOr<std::string> Ask(const std::string& study,
                                  std::shared_ptr<const v1::ImageSetManifest> manifest,
                                  const std::string& file);
  // {"updates": [from `after` on], "done", "total", "ended", "error"}. NOT_FOUND: it is over and
  // fetched, or was not looked at.
  absl::StatusOr<nlohmann::json> Read(const std::string& name, size_t after);
  // The image as the model is given it: a BMP file.
  absl::StatusOr<std::string> Image(const std::string& name);
  // Whoever asked has gone.
  void Leave(const std::string& name);

 private:
  struct Entry;
  std::shared_ptr<Entry> Find(const std::string& name);
  void Sweep();  // Leaves those that nobody looks at, again and again.

  QuestionDesk& desk_;
  Decoder& decoder_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::thread sweeper_;
};

// As the page draws it.
nlohmann::json UpdateAsJson(const v1::ExplainUpdate& update, const v1::ImageSetManifest& manifest);

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_DASHBOARD_QUESTION_BOARD_H_
