// Service Questions: an image comes in, its answer goes out as it is computed.
#ifndef DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_
#define DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_

#include "coordinator/services/access.h"
#include "coordinator/services/question_desk.h"
#include "dermis/v1/question.grpc.pb.h"

namespace dermis {

// Arguments outlive the server.
class QuestionService : public v1::Questions::CallbackService {
 public:
  QuestionService(const Access& access, QuestionDesk& desk) : access_(access), desk_(desk) {}

  grpc::ServerWriteReactor<v1::ExplainUpdate>* Explain(grpc::CallbackServerContext* context,
                                                       const v1::ExplainRequest* request) override;

 private:
  const Access& access_;
  QuestionDesk& desk_;
};

}  // namespace dermis

#endif  // DERMIS_COORDINATOR_SERVICES_QUESTION_SERVICE_H_
