# The examples and the measurement that ranks of MPI run together, where there is an MPI: the library needs none. MPI keeps what it allocates, and its
# shared memory is no business of a sanitizer; and a cross build would find that of this machine.
if("${CMAKE_CXX_FLAGS}" MATCHES "-fsanitize" OR CMAKE_CROSSCOMPILING)
  return()
endif()
set(MPI_CXX_SKIP_MPICXX ON)  # the C interface: that of MPI-2 for C++ is no more
find_package(MPI COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  message(STATUS "isonorm: there is no MPI (Debian: libopenmpi-dev, openmpi-bin), so examples/mpi_rms_norm.cc and its Python twin are "
    "left out, and so are their tests")
  return()
endif()

isonorm_program(example_mpi_rms_norm ${PROJECT_SOURCE_DIR}/examples/mpi_rms_norm.cc)
target_link_libraries(test_example_mpi_rms_norm PRIVATE MPI::MPI_CXX)
set(check_mpi ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_mpi.py)
add_test(NAME package.example_mpi_rms_norm
  COMMAND ${check_mpi} ${PROJECT_SOURCE_DIR}/examples/mpi_rms_norm.out ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:test_example_mpi_rms_norm>)
add_test(NAME package.example_mpi_rms_norm.must_fail
  COMMAND ${check_mpi} --self-test ${PROJECT_SOURCE_DIR}/examples/mpi_rms_norm.out)
set(tests package.example_mpi_rms_norm package.example_mpi_rms_norm.must_fail)
if(ISONORM_BUILD_PYTHON)
  set(twin ${PROJECT_SOURCE_DIR}/examples/python/mpi_rms_norm)
  add_test(NAME package.example_mpi_rms_norm.python
    COMMAND ${check_mpi} ${twin}.out ${MPIEXEC_EXECUTABLE} ${Python_EXECUTABLE} -m mpi4py ${twin}.py)
  add_test(NAME package.scaling.measure
    COMMAND ${check_mpi} --two ${MPIEXEC_EXECUTABLE} ${Python_EXECUTABLE} -m mpi4py ${PROJECT_SOURCE_DIR}/bench/scaling/measure.py)
  list(APPEND tests package.example_mpi_rms_norm.python package.scaling.measure)
endif()
set_tests_properties(${tests} PROPERTIES TIMEOUT 600 ENVIRONMENT "${documented_environment}")
