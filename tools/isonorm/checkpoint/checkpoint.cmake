# What rewrites tensors.
isonorm_part(isonorm_checkpoint
  isonorm/checkpoint/change.cc
  isonorm/checkpoint/names.cc
  isonorm/checkpoint/plan.cc)
target_sources(isonorm_cli PRIVATE isonorm/checkpoint/checkpoint.cc)
target_link_libraries(isonorm_cli PRIVATE isonorm_checkpoint)
# A fused multiply-add must not make other sums on other machines.
set_source_files_properties(isonorm/checkpoint/change.cc PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
