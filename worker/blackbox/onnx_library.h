// What the library dermis_onnx offers: ONNX files, run by OpenCV's dnn. A table of C functions,
// loaded when a task needs it: so the worker does not link OpenCV, and runs where there is none.
// Errors are texts in the caller's buffer, ended by 0.
#ifndef DERMIS_WORKER_BLACKBOX_ONNX_LIBRARY_H_
#define DERMIS_WORKER_BLACKBOX_ONNX_LIBRARY_H_

#include <cstdint>

namespace dermis {

inline constexpr uint32_t kOnnxLibraryRelease = 1;

struct OnnxLibraryTable {
  uint32_t release;
  const char* version;  // "4.6.0": OpenCV's.
  // A network, or null with an error.
  void* (*open)(const void* bytes, uint64_t size, char* error, uint64_t error_size);
  void (*close)(void* network);
  // One float tensor of 1 x 3 x side x side. Gives the number of its outputs, of which at most
  // `capacity` are written; -1 with an error.
  int64_t (*run)(void* network, const float* tensor, uint32_t side, float* outputs,
                 uint64_t capacity, char* error, uint64_t error_size);
};

}  // namespace dermis

// The one symbol of the library.
extern "C" const dermis::OnnxLibraryTable* DermisOnnxLibrary();

#endif  // DERMIS_WORKER_BLACKBOX_ONNX_LIBRARY_H_
