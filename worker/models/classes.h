// The classes of a model in another order.
#ifndef DERMIS_WORKER_MODELS_CLASSES_H_
#define DERMIS_WORKER_MODELS_CLASSES_H_

#include <cstdint>

#include "worker/models/model.h"

namespace dermis {

// Class c becomes the last one (the one that is explained); the others keep their order. c <
// classes.
void MoveClassLast(uint32_t c, Model& model);

}  // namespace dermis

#endif  // DERMIS_WORKER_MODELS_CLASSES_H_
