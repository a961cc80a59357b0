# The worker's own files. No Torch headers here: only the libraries beneath know it.
dermis_library(dermis_worker
  SOURCES attempts.cc blob_cache.cc blob_fetcher.cc completer.cc gang_runner.cc given_images.cc join.cc
          peer_blob_service.cc result_cache.cc session.cc supervisor.cc unit_pool.cc
  DEPS dermis_common dermis_data dermis_proto dermis_collective absl::cleanup OpenSSL::SSL OpenSSL::Crypto)

# The table of task kinds, and all that computes.
dermis_library(dermis_task_runner
  SOURCES task_runner.cc
  DEPS dermis_baseline dermis_blackbox dermis_data dermis_embed dermis_evaluation dermis_explain dermis_explain_checks
       dermis_explain_lesion dermis_model dermis_models dermis_plan dermis_common)

# Whether an image is like the training images.
dermis_library(dermis_familiarity SOURCES familiarity_runner.cc DEPS dermis_worker dermis_embedding dermis_models dermis_data dermis_common)

dermis_binary(dermis-worker
  SOURCES main.cc
  DEPS dermis_worker dermis_familiarity dermis_task_runner dermis_device dermis_data dermis_gpu_models dermis_training
       dermis_collective CLI11::CLI11)
add_dependencies(dermis-worker dermis_onnx)  # It loads it where a task asks for it.
if(DERMIS_CUDA)
  add_dependencies(dermis-worker dermis_cuda)  # And this one where there is a GPU.
endif()
