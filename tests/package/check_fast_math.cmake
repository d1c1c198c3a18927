# -ffast-math must be refused twice: by CMake, and by the sources for those who compile them in another way.
#   cmake -DSOURCE=... -DWORK=... -DCXX_COMPILER=... -DC_COMPILER=... -DGENERATOR=... -P check_fast_math.cmake
function(must_fail what pattern)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result EQUAL 0)
    message(FATAL_ERROR "${what} is accepted")
  endif()
  if(NOT output MATCHES "${pattern}")
    message(FATAL_ERROR "${what} is refused without naming the reason:\n${output}")
  endif()
endfunction()

set(configure ${CMAKE_COMMAND} -S ${SOURCE} -G ${GENERATOR} -DCMAKE_C_COMPILER=${C_COMPILER} -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
    -DISONORM_BUILD_TOOLS=OFF -DISONORM_BUILD_TESTS=OFF)
file(REMOVE_RECURSE "${WORK}")
foreach(flag IN ITEMS -ffast-math -Ofast -funsafe-math-optimizations)
  must_fail("CMAKE_CXX_FLAGS=${flag}" "must not be built with ${flag}" ${configure} -B ${WORK}/flags${flag} -DCMAKE_CXX_FLAGS=${flag})
endforeach()
must_fail("reference.cc with -ffast-math" "#error.*fast-math"
          ${CXX_COMPILER} -std=c++20 -ffast-math -fsyntax-only -I${SOURCE}/include -I${SOURCE}/src ${SOURCE}/src/reference/reference.cc)

# The same commands without the flag must pass, or the refusals above prove nothing.
execute_process(COMMAND ${configure} -B ${WORK}/plain RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the project does not configure at all:\n${output}")
endif()
execute_process(COMMAND ${CXX_COMPILER} -std=c++20 -fsyntax-only -I${SOURCE}/include -I${SOURCE}/src ${SOURCE}/src/reference/reference.cc
                RESULT_VARIABLE result ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "reference.cc does not compile at all:\n${output}")
endif()
