# Large headers of other libraries, compiled once for a target instead of once for each of its files. A compiler cache must be
# told to take what is in a precompiled header for a part of what it compares, as scripts/lib.sh does; otherwise it would never
# find these files again.
function(isonorm_precompile target)
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  elseif(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND "$ENV{CCACHE_SLOPPINESS}" MATCHES "pch_defines")
    target_precompile_headers(${target} PRIVATE ${ARGN})
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()
