# Large headers of other libraries, compiled once for a target instead of once for each of its files. A compiler cache saves more,
# and does not know what is in a precompiled header.
function(isonorm_precompile target)
  if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
