# What `checkpoint` computes, as a library that the Python package uses too; see isonorm_stats.
add_library(isonorm_checkpoint STATIC
  isonorm/checkpoint/change.cc
  isonorm/checkpoint/names.cc
  isonorm/checkpoint/plan.cc)
set_target_properties(isonorm_checkpoint PROPERTIES
  POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_compile_features(isonorm_checkpoint PUBLIC cxx_std_20)
target_compile_options(isonorm_checkpoint PRIVATE -Wall -Wextra -Wshadow)
target_include_directories(isonorm_checkpoint PUBLIC isonorm "${PROJECT_SOURCE_DIR}/include")
target_link_libraries(isonorm_checkpoint PRIVATE fmt::fmt-header-only)
target_sources(isonorm_cli PRIVATE isonorm/checkpoint/checkpoint.cc)
target_link_libraries(isonorm_cli PRIVATE isonorm_checkpoint)
# A fused multiply-add must not make other sums on other machines.
set_source_files_properties(isonorm/checkpoint/change.cc PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
