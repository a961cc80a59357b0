// What stream() of the host device points to, and what a stand-in for NCCL queues its work on: the
// host's counterpart of a CUDA stream. An interface without code, so that a shared library needs
// nothing of ours.
#ifndef DERMIS_WORKER_CUDA_HOST_STREAM_H_
#define DERMIS_WORKER_CUDA_HOST_STREAM_H_

namespace dermis {

class HostStream {
 public:
  // Calls run(argument) once, in a thread of the stream's, after all that was queued before. Does
  // not wait.
  virtual void Enqueue(void (*run)(void*), void* argument) = 0;

 protected:
  ~HostStream() = default;
};

}  // namespace dermis

#endif  // DERMIS_WORKER_CUDA_HOST_STREAM_H_
