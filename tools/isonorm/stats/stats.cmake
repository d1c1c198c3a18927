# The parts of the page that --html writes are compiled in, so that it works wherever the program is copied.
set(_report "")
foreach(_part IN ITEMS report.html report.css charts.js report.js)
  set(_file "${CMAKE_CURRENT_LIST_DIR}/../report/${_part}")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${_file}")
  file(READ "${_file}" _hex HEX)
  string(REGEX REPLACE "(..)" "0x\\1," _bytes "${_hex}")
  string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" _bytes "${_bytes}")
  string(MAKE_C_IDENTIFIER "${_part}" _name)
  string(APPEND _report "constexpr unsigned char k_${_name}[] = {\n${_bytes}};\n")
endforeach()
set(ISONORM_REPORT_PARTS "${_report}")

# The page allows this one script and no other, by its SHA-256 in base64. Of these 256 bits the last digit is padding.
file(READ "${CMAKE_CURRENT_LIST_DIR}/../report/charts.js" _charts)
file(READ "${CMAKE_CURRENT_LIST_DIR}/../report/report.js" _script)
string(SHA256 _hash "\n${_charts}${_script}")
set(_digits "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
set(ISONORM_REPORT_HASH "")
foreach(_at RANGE 0 60 6)
  string(SUBSTRING "${_hash}00" ${_at} 6 _bits)
  foreach(_shift IN ITEMS 18 12 6 0)
    math(EXPR _digit "0x${_bits} >> ${_shift} & 63")
    string(SUBSTRING "${_digits}" ${_digit} 1 _digit)
    string(APPEND ISONORM_REPORT_HASH "${_digit}")
  endforeach()
endforeach()
string(REGEX REPLACE ".$" "=" ISONORM_REPORT_HASH "${ISONORM_REPORT_HASH}")
configure_file("${CMAKE_CURRENT_LIST_DIR}/../report/shipped.cc.in" "${CMAKE_CURRENT_BINARY_DIR}/report_shipped.cc" @ONLY)

# What looks into tensors and tells of it.
isonorm_part(isonorm_stats
  "${CMAKE_CURRENT_BINARY_DIR}/report_shipped.cc"
  isonorm/stats/json.cc
  isonorm/stats/page.cc
  isonorm/stats/rows.cc
  isonorm/stats/run.cc
  isonorm/stats/summary.cc
  isonorm/stats/tensor.cc)
target_link_libraries(isonorm_stats PUBLIC nlohmann_json::nlohmann_json)
target_sources(isonorm_cli PRIVATE
  isonorm/stats/files.cc
  isonorm/stats/plan.cc
  isonorm/stats/stats.cc
  isonorm/stats/table.cc)
# A fused multiply-add must not make other sums on other machines.
set_source_files_properties(isonorm/stats/rows.cc isonorm/stats/tensor.cc PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
