# Targets of Dermis.
#
#   dermis_library(name SOURCES ... [DEPS ...])             static library; no sources: INTERFACE
#   dermis_binary(name SOURCES ... [DEPS ...])              program in <build>/bin
#   dermis_test(name SOURCES ... [DEPS ...] [TIMEOUT s] [LABELS ...])  GoogleTest program + ctest entry
#   dermis_script_test(name COMMAND ... [TIMEOUT s] [LABELS ...])      ctest entry of a script
#   dermis_add_parts()                                      add_subdirectory of every part beneath
#
# Sources are named one by one, never globbed. cmake/Torch.cmake has the same three for code that
# includes Torch headers.

function(dermis_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  if(arg_SOURCES)
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC ${arg_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_DEPS})
  endif()
endfunction()

function(dermis_binary name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_DEPS})
endfunction()

# Common to all tests: they run in the source root and know where things lie by two variables.
function(dermis_register_test name timeout labels)
  if(NOT timeout)
    set(timeout 120)
  endif()
  file(RELATIVE_PATH folder "${CMAKE_SOURCE_DIR}/tests" "${CMAKE_CURRENT_SOURCE_DIR}")
  string(REGEX REPLACE "/.*" "" folder "${folder}")
  if(NOT folder MATCHES "^[a-z_]+$")
    set(folder unit)
  endif()
  set_tests_properties(${name} PROPERTIES
    TIMEOUT ${timeout}
    # The long ones first: none runs alone at the end while other cores idle.
    COST ${timeout}
    LABELS "${folder};${labels}"
    WORKING_DIRECTORY "${CMAKE_SOURCE_DIR}"
    # 77 is the customary exit code of "skipped".
    SKIP_RETURN_CODE 77
    ENVIRONMENT "DERMIS_SOURCE_DIR=${CMAKE_SOURCE_DIR};DERMIS_BUILD_DIR=${CMAKE_BINARY_DIR};\
GTEST_OUTPUT=json:${CMAKE_BINARY_DIR}/test-results/${name}.json;GTEST_COLOR=no")
endfunction()

# A GoogleTest program as dermis_test makes it, with the optimisation of what it tests.
function(dermis_optimised_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;DEPS;LABELS")
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests-bin")
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gmock_main)
  add_test(NAME ${name} COMMAND ${name})
  dermis_register_test(${name} "${arg_TIMEOUT}" "${arg_LABELS}")
endfunction()

function(dermis_test name)
  dermis_optimised_test(${name} ${ARGN})
  # A third of a cold build are tests, and a fifth of that would be optimisation of what runs once.
  target_compile_options(${name} PRIVATE -O1)
endfunction()

function(dermis_script_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "COMMAND;LABELS")
  add_test(NAME ${name} COMMAND ${arg_COMMAND})
  dermis_register_test(${name} "${arg_TIMEOUT}" "script;${arg_LABELS}")
endfunction()

# Adds every sub folder that has a CMakeLists.txt; in a folder that has none, looks one level deeper.
# New folders are seen at the next build.
macro(dermis_add_parts)
  file(GLOB dermis_parts CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}"
       "*/CMakeLists.txt" "*/*/CMakeLists.txt" "*/*/*/CMakeLists.txt")
  list(SORT dermis_parts)
  set(dermis_added)
  foreach(depth RANGE 1 3)
    foreach(part IN LISTS dermis_parts)
      string(REGEX MATCHALL "/" slashes "${part}")
      list(LENGTH slashes length)
      if(NOT length EQUAL depth)
        continue()
      endif()
      get_filename_component(folder "${part}" DIRECTORY)
      # A part that was added by hand, because others need it first, is not added twice.
      get_property(below DIRECTORY PROPERTY SUBDIRECTORIES)
      if("${CMAKE_CURRENT_SOURCE_DIR}/${folder}" IN_LIST below)
        continue()
      endif()
      set(below FALSE)
      foreach(added IN LISTS dermis_added)
        string(FIND "${folder}/" "${added}/" position)
        if(position EQUAL 0)
          set(below TRUE)
        endif()
      endforeach()
      if(NOT below)
        list(APPEND dermis_added "${folder}")
        add_subdirectory("${folder}")
      endif()
    endforeach()
  endforeach()
endmacro()
