# Configures a preset into BUILD and builds the named targets; its output is shown only if something fails.
#   cmake -DPRESET=... -DSOURCE=... -DBUILD=... -DSETTINGS="-D...;-D..." -DTARGETS="a;b" -P build_tree.cmake
function(run)
  execute_process(COMMAND ${ARGV} WORKING_DIRECTORY ${SOURCE} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${output}\n${command}: exit status ${result}")
  endif()
endfunction()

run(${CMAKE_COMMAND} --preset ${PRESET} -B ${BUILD} ${SETTINGS})
run(${CMAKE_COMMAND} --build ${BUILD} --target ${TARGETS})
