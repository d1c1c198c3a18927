# The benchmark as objects of the command line tool.
find_path(HWY_INCLUDE_DIR hwy/highway.h REQUIRED)

add_library(isonorm_bench STATIC
  "${CMAKE_CURRENT_LIST_DIR}/bench.cc"
  "${CMAKE_CURRENT_LIST_DIR}/cached.cc"
  "${CMAKE_CURRENT_LIST_DIR}/call.cc"
  "${CMAKE_CURRENT_LIST_DIR}/chart.cc"
  "${CMAKE_CURRENT_LIST_DIR}/choices.cc"
  "${CMAKE_CURRENT_LIST_DIR}/free_loops.cc"
  "${CMAKE_CURRENT_LIST_DIR}/fused.cc"
  "${CMAKE_CURRENT_LIST_DIR}/loops.cc"
  "${CMAKE_CURRENT_LIST_DIR}/machine.cc"
  "${CMAKE_CURRENT_LIST_DIR}/report.cc"
  "${CMAKE_CURRENT_LIST_DIR}/rope.cc"
  "${CMAKE_CURRENT_LIST_DIR}/rows.cc"
  "${CMAKE_CURRENT_LIST_DIR}/smooth.cc"
  "${CMAKE_CURRENT_LIST_DIR}/steps.cc"
  "${CMAKE_CURRENT_LIST_DIR}/stream.cc"
  "${CMAKE_CURRENT_LIST_DIR}/table.cc"
  "${CMAKE_CURRENT_LIST_DIR}/textbook.cc"
  "${CMAKE_CURRENT_LIST_DIR}/timing.cc")
target_compile_features(isonorm_bench PUBLIC cxx_std_20)
target_compile_options(isonorm_bench PRIVATE -Wall -Wextra -Wshadow)
target_include_directories(isonorm_bench PRIVATE "${CMAKE_CURRENT_LIST_DIR}/.." "${PROJECT_SOURCE_DIR}/include")
target_include_directories(isonorm_bench SYSTEM PRIVATE "${HWY_INCLUDE_DIR}")
target_compile_definitions(isonorm_bench PRIVATE HWY_IS_DEBUG_BUILD=0)  # its assertions would need libhwy
target_link_libraries(isonorm_bench PRIVATE CLI11::CLI11 ${isonorm_fmt} nlohmann_json::nlohmann_json)

# The baselines are what these flags make of textbook loops. They stay on these files: given to the linker, -ffast-math
# would make the whole program flush subnormal numbers to zero.
set(_textbook_options -O3 -ffast-math)
if(NOT CMAKE_CROSSCOMPILING)
  list(APPEND _textbook_options -march=native)
endif()
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/textbook.cc" "${CMAKE_CURRENT_LIST_DIR}/steps.cc"
  PROPERTIES COMPILE_OPTIONS "${_textbook_options}")

if(ISONORM_BUILD_TESTS)
  enable_testing()
  # Not a test of speed: every row must run and give numbers.
  add_test(NAME bench_quick COMMAND isonorm_cli bench --quick)
  set_tests_properties(bench_quick PROPERTIES TIMEOUT 120 PASS_REGULAR_EXPRESSION "of [0-9]+ goals met")
  # --check must see a missed goal: the scalar reference misses this one by a factor of a hundred.
  add_test(NAME bench_check_fails COMMAND sh -c
    "\"$<TARGET_FILE:isonorm_cli>\" bench --quick --filter 'cached.1x4096.bf16' --check; test $? -eq 1")
  set_tests_properties(bench_check_fails PROPERTIES TIMEOUT 60 ENVIRONMENT ISONORM_TARGET=reference)
endif()
