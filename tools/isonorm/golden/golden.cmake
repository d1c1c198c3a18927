# The golden checks as a library without command line, which the verify verb and the tests share.
# The shipped golden file is compiled in, so that `isonorm verify` works wherever the program is copied.
set(_golden_file "${PROJECT_SOURCE_DIR}/data/golden/public.tsv")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_golden_file}")
file(READ "${_golden_file}" _golden_hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," ISONORM_GOLDEN_BYTES "${_golden_hex}")
string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" ISONORM_GOLDEN_BYTES
                     "${ISONORM_GOLDEN_BYTES}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/shipped.cc.in" "${CMAKE_CURRENT_BINARY_DIR}/golden_shipped.cc" @ONLY)

add_library(isonorm_golden STATIC
  "${CMAKE_CURRENT_LIST_DIR}/golden.cc"
  "${CMAKE_CURRENT_LIST_DIR}/buffer.cc"
  "${CMAKE_CURRENT_LIST_DIR}/check.cc"
  "${CMAKE_CURRENT_LIST_DIR}/data.cc"
  "${CMAKE_CURRENT_LIST_DIR}/parallel.cc"
  "${CMAKE_CURRENT_LIST_DIR}/run.cc"
  "${CMAKE_CURRENT_LIST_DIR}/tensors.cc"
  "${CMAKE_CURRENT_BINARY_DIR}/golden_shipped.cc")
target_compile_features(isonorm_golden PUBLIC cxx_std_20)
# The values are exact sums and products; a fused multiply-add must not change them.
target_compile_options(isonorm_golden PRIVATE -ffp-contract=off -Wall -Wextra -Wshadow)
target_include_directories(isonorm_golden PUBLIC "${CMAKE_CURRENT_LIST_DIR}/.." "${PROJECT_SOURCE_DIR}/include")
# The library itself comes from the program that links this: the CLI and the tests may take the shared or the static one.
