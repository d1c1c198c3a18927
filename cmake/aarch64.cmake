# 64-bit Arm Linux with Debian's cross compiler; what it builds runs under qemu-aarch64.
#
# The headers of Highway, fmt, CLI11 and nlohmann-json are the same on every architecture, but the folder they are installed
# in also holds this machine's C library, which must not be seen. So a folder of links to just those four is made, and small
# package files beside this one stand in for the packages, whose compiled parts are for this machine.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;/usr/aarch64-linux-gnu)

set(ISONORM_AARCH64_HEADERS "${CMAKE_BINARY_DIR}/portable-headers" CACHE PATH "Links to headers that fit every architecture")
foreach(package IN ITEMS hwy fmt CLI nlohmann)
  if(NOT EXISTS "/usr/include/${package}")
    message(FATAL_ERROR "/usr/include/${package} is missing: install libhwy-dev libfmt-dev libcli11-dev nlohmann-json3-dev")
  endif()
  file(MAKE_DIRECTORY "${ISONORM_AARCH64_HEADERS}")
  file(CREATE_LINK "/usr/include/${package}" "${ISONORM_AARCH64_HEADERS}/${package}" SYMBOLIC)
endforeach()

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE NEVER)
list(APPEND CMAKE_FIND_ROOT_PATH "${ISONORM_AARCH64_HEADERS}")
# find_path() looks in PREFIX/include of each prefix: with this root the prefix itself must do.
set(CMAKE_INCLUDE_PATH "/" "${ISONORM_AARCH64_HEADERS}")

set(fmt_DIR "${CMAKE_CURRENT_LIST_DIR}/aarch64")
set(CLI11_DIR "${CMAKE_CURRENT_LIST_DIR}/aarch64")
set(nlohmann_json_DIR "${CMAKE_CURRENT_LIST_DIR}/aarch64")
set(hwy_DIR "${CMAKE_CURRENT_LIST_DIR}/aarch64")
set(Highway_DIR "${CMAKE_CURRENT_LIST_DIR}/aarch64")
