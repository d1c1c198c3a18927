# Every snippet of the pages below and every example is compiled, run, and its output compared where the text states one.
set(pages README.md docs/cli.md docs/gradients.md docs/keras.md docs/parallel.md docs/python.md docs/tutorials.md)

set(documented_environment PYTHONPATH=${PROJECT_BINARY_DIR}/site HF_HUB_OFFLINE=1 PYTHONPYCACHEPREFIX=${PROJECT_BINARY_DIR}/pycache
  PYTHONDONTWRITEBYTECODE=)

# isonorm_program(NAME SOURCE): test_NAME, of a source in C or C++.
function(isonorm_program name source)
  add_executable(test_${name} ${source})
  set_target_properties(test_${name} PROPERTIES C_STANDARD 11 C_EXTENSIONS OFF)
  target_compile_features(test_${name} PRIVATE cxx_std_20)
  target_compile_options(test_${name} PRIVATE -Wall -Wextra -Werror)
  target_link_libraries(test_${name} PRIVATE isonorm::isonorm Threads::Threads)
endfunction()

# isonorm_documented(NAME SOURCE EXPECTED): a program of the documentation as a test.
function(isonorm_documented name source expected)
  if(source MATCHES "\\.sh$")
    if(NOT TARGET isonorm_cli)
      return()
    endif()
    set(command "bash;-eu;${source}")
  elseif(source MATCHES "\\.py$")
    if(NOT ISONORM_BUILD_PYTHON)
      return()
    endif()
    set(command "${Python_EXECUTABLE};${source}")
  else()
    isonorm_program(${name} ${source})
    set(command $<TARGET_FILE:test_${name}>)
  endif()
  add_test(NAME package.${name}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/run/${name} -DSOURCE=${PROJECT_SOURCE_DIR}
      -DEXPECTED=${expected} -DBIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY} "-DCOMMAND=${command}"
      -P ${CMAKE_CURRENT_SOURCE_DIR}/check_output.cmake)
  set_tests_properties(package.${name} PROPERTIES TIMEOUT 120 ENVIRONMENT "${documented_environment}")
endfunction()

foreach(page IN LISTS pages)
  get_filename_component(of_page ${page} NAME_WE)
  string(TOLOWER ${of_page} of_page)
  set(snippets ${CMAKE_CURRENT_BINARY_DIR}/snippets/${of_page})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${page})
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/extract_snippets.py ${PROJECT_SOURCE_DIR}/${page} ${snippets}
    COMMAND_ERROR_IS_FATAL ANY)
  file(GLOB sources ${snippets}/*.c ${snippets}/*.cc ${snippets}/*.sh ${snippets}/*.py)
  foreach(source IN LISTS sources)
    get_filename_component(name ${source} NAME_WE)
    isonorm_documented(${of_page}_${name} ${source} ${snippets}/${name}.out)
  endforeach()
endforeach()

file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/*.c ${PROJECT_SOURCE_DIR}/examples/*.cc)
list(FILTER sources EXCLUDE REGEX "/mpi_[^/]*$")
foreach(source IN LISTS sources)
  get_filename_component(name ${source} NAME_WE)
  isonorm_documented(example_${name} ${source} ${PROJECT_SOURCE_DIR}/examples/${name}.out)
endforeach()
include(mpi.cmake)
