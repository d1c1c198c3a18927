# Every promise of this project is one about roundings, which -ffast-math gives away. The sources refuse it with #error too;
# here the message comes before anything is built.
string(TOUPPER "${CMAKE_BUILD_TYPE}" isonorm_build_type)
foreach(flags IN ITEMS "${CMAKE_CXX_FLAGS}" "${CMAKE_CXX_FLAGS_${isonorm_build_type}}")
  if(flags MATCHES "-(ffast-math|Ofast|funsafe-math-optimizations|ffinite-math-only|fassociative-math|freciprocal-math)")
    message(FATAL_ERROR "isonorm must not be built with ${CMAKE_MATCH_0}: it changes roundings, and with them the bits that "
      "isonorm promises. Remove it from CMAKE_CXX_FLAGS.")
  endif()
endforeach()
