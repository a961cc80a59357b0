#include "worker/blackbox/onnx_library.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>

namespace dermis {
namespace {

void Say(const std::string& what, char* error, uint64_t size) {
  if (size == 0) return;
  const size_t length = std::min<size_t>(what.size(), size - 1);
  std::memcpy(error, what.data(), length);
  error[length] = 0;
}

std::string WordsOf(const std::exception& error) {
  const auto* const own = dynamic_cast<const cv::Exception*>(&error);
  const std::string words = own != nullptr ? own->err : std::string(error.what());
  return words.size() > 300 ? words.substr(0, 300) + " ..." : words;
}

void* Open(const void* bytes, uint64_t size, char* error, uint64_t error_size) {
  try {
    // Compute threads run networks side by side; each on itself alone.
    cv::setNumThreads(0);
    // What goes wrong comes back as an error; the log has no use for it twice.
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
    auto network = std::make_unique<cv::dnn::Net>(
        cv::dnn::readNetFromONNX(static_cast<const char*>(bytes), size));
    if (network->empty()) {
      Say("it holds no network", error, error_size);
      return nullptr;
    }
    network->setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
    network->setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
    const std::vector<std::string> outputs = network->getUnconnectedOutLayersNames();
    if (outputs.size() != 1) {
      Say("it has " + std::to_string(outputs.size()) +
              " outputs; one with a value for each class is needed",
          error, error_size);
      return nullptr;
    }
    return network.release();
  } catch (const std::exception& e) {
    Say(WordsOf(e), error, error_size);
    return nullptr;
  }
}

void Close(void* network) { delete static_cast<cv::dnn::Net*>(network); }

int64_t Run(void* network, const float* tensor, uint32_t side, float* outputs, uint64_t capacity,
            char* error, uint64_t error_size) {
  try {
    const int sizes[] = {1, 3, static_cast<int>(side), static_cast<int>(side)};
    // The network may keep what it is given until it has run: it reads, and does not write.
    const cv::Mat input(4, sizes, CV_32F, const_cast<float*>(tensor));
    auto& net = *static_cast<cv::dnn::Net*>(network);
    net.setInput(input);
    const cv::Mat output = net.forward();
    if (output.type() != CV_32F || !output.isContinuous()) {
      Say("its output is not a tensor of floats", error, error_size);
      return -1;
    }
    const uint64_t count = output.total();
    std::copy_n(output.ptr<float>(), std::min(count, capacity), outputs);
    return static_cast<int64_t>(count);
  } catch (const std::exception& e) {
    Say(WordsOf(e), error, error_size);
    return -1;
  }
}

}  // namespace
}  // namespace dermis

extern "C" __attribute__((visibility("default"))) const dermis::OnnxLibraryTable*
DermisOnnxLibrary() {
  static const dermis::OnnxLibraryTable kTable = {dermis::kOnnxLibraryRelease, CV_VERSION,
                                                  dermis::Open, dermis::Close, dermis::Run};
  return &kTable;
}
