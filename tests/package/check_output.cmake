# Runs a program, or a shell script, in FOLDER with the repository's data beside it, and compares what it prints with EXPECTED,
# if that file exists. FOLDER is made anew each time.
#   cmake -DFOLDER=... -DSOURCE=... -DEXPECTED=... -DBIN=... -DCOMMAND="program;argument" -P check_output.cmake
file(REMOVE_RECURSE "${FOLDER}")
file(MAKE_DIRECTORY "${FOLDER}")
file(CREATE_LINK "${SOURCE}/data" "${FOLDER}/data" SYMBOLIC)
set(ENV{PATH} "${BIN}:$ENV{PATH}")
execute_process(COMMAND ${COMMAND} WORKING_DIRECTORY "${FOLDER}" RESULT_VARIABLE result OUTPUT_VARIABLE output
                ERROR_VARIABLE errors)
message("${output}${errors}")
if(NOT result EQUAL 0)
  message(FATAL_ERROR "exit status ${result}")
endif()
if(output STREQUAL "")
  message(FATAL_ERROR "it printed nothing")
endif()
if(EXISTS "${EXPECTED}")
  file(READ "${EXPECTED}" expected)
  if(NOT output STREQUAL expected)
    message(FATAL_ERROR "${EXPECTED} says it prints\n${expected}")
  endif()
endif()
