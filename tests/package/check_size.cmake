# The stripped library must not be larger than LIMIT bytes: kernels are to add up, not to multiply.
#   cmake -DLIBRARY=... -DSTRIP=... -DLIMIT=... -DWORK=... -P check_size.cmake
file(MAKE_DIRECTORY "${WORK}")
execute_process(COMMAND ${STRIP} -o ${WORK}/stripped ${LIBRARY} RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${STRIP} failed: ${result}")
endif()
file(SIZE ${WORK}/stripped size)
if(size GREATER LIMIT)
  message(FATAL_ERROR "the stripped library has ${size} bytes; at most ${LIMIT} are allowed")
endif()
message(STATUS "the stripped library has ${size} bytes of ${LIMIT}")
