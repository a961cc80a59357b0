// Service Questions: an image comes in, its answer goes out as it is computed.
#ifndef DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_

#include "coordinator/services/access.h"
#include "coordinator/services/awaited_calls.h"
#include "coordinator/services/question_desk.h"
#include "dermis/v1/question.grpc.pb.h"

namespace dermis {

// Arguments outlive the server.
class QuestionService : public AwaitedCalls<v1::Questions> {
 public:
  QuestionService(const Access& access, QuestionDesk& desk)
      : AwaitedCalls(access), access_(access), desk_(desk) {
    Await("Explain", &QuestionService::Explain);
  }

  grpc::ServerWriteReactor<v1::ExplainUpdate>* Explain(grpc::CallbackServerContext* context,
                                                       const v1::ExplainRequest* request) override;

 private:
  const Access& access_;
  QuestionDesk& desk_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_
