# OpenCV from the distribution's small packages (libopencv-core-dev, ...): OpenCVConfig.cmake comes
# only with libopencv-dev, which draws in 500 MB. Targets: opencv_<component>, headers as SYSTEM
# (OpenCV 4.6 warns under C++20). Result: OpenCV_FOUND, OpenCV_INCLUDE_DIRS, OpenCV_LIBS.
find_path(OpenCV_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4)
set(OpenCV_INCLUDE_DIRS "${OpenCV_INCLUDE_DIR}")
set(OpenCV_LIBS)
foreach(component IN LISTS OpenCV_FIND_COMPONENTS)
  find_library(OpenCV_${component}_LIBRARY opencv_${component})
  if(OpenCV_INCLUDE_DIR AND OpenCV_${component}_LIBRARY
     AND EXISTS "${OpenCV_INCLUDE_DIR}/opencv2/${component}.hpp")
    set(OpenCV_${component}_FOUND TRUE)
    if(NOT TARGET opencv_${component})
      add_library(opencv_${component} SHARED IMPORTED GLOBAL)
      set_target_properties(opencv_${component} PROPERTIES
        IMPORTED_LOCATION "${OpenCV_${component}_LIBRARY}"
        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${OpenCV_INCLUDE_DIR}"
        INTERFACE_INCLUDE_DIRECTORIES "${OpenCV_INCLUDE_DIR}")
    endif()
    list(APPEND OpenCV_LIBS opencv_${component})
  endif()
endforeach()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenCV REQUIRED_VARS OpenCV_INCLUDE_DIR HANDLE_COMPONENTS
  REASON_FAILURE_MESSAGE "run tools/setup")
