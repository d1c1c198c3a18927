# The slow gates, as tests among the others so that one summary has everything. Each sanitizer and the cross build is a tree
# of its own below this one: a test that builds it, and tests that need it.
find_program(CLANG_FORMAT clang-format REQUIRED)
find_program(CLANG_TIDY clang-tidy REQUIRED)
find_program(QEMU_AARCH64 qemu-aarch64 REQUIRED)
find_program(CLANGXX clang++ REQUIRED)
set(launchers -DCMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER} -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER})

add_test(NAME gate.format
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_format.py ${PROJECT_SOURCE_DIR} ${CLANG_FORMAT})
add_test(NAME gate.tidy
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_tidy.py ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}
    ${CLANG_TIDY} ${CMAKE_CURRENT_BINARY_DIR}/tidy-cache)
add_test(NAME gate.tidy.must_fail
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_tidy.py --self-test ${PROJECT_SOURCE_DIR}
    ${PROJECT_BINARY_DIR} ${CLANG_TIDY})
set_tests_properties(gate.tidy PROPERTIES TIMEOUT ${no_limit} PROCESSORS 2 LABELS slow)
set_tests_properties(gate.tidy.must_fail PROPERTIES TIMEOUT 300 LABELS slow)

# isonorm_tree(PRESET [SETTINGS ...] TARGETS ...): a test that configures and builds a tree, as the fixture tree.PRESET.
function(isonorm_tree preset)
  cmake_parse_arguments(PARSE_ARGV 1 tree "" "" "SETTINGS;TARGETS")
  add_test(NAME gate.${preset}.build
    COMMAND ${CMAKE_COMMAND} -DPRESET=${preset} -DSOURCE=${PROJECT_SOURCE_DIR} -DBUILD=${PROJECT_BINARY_DIR}/${preset}
      "-DSETTINGS=${launchers};${tree_SETTINGS}" "-DTARGETS=${tree_TARGETS}" -P ${CMAKE_CURRENT_SOURCE_DIR}/build_tree.cmake)
  set_tests_properties(gate.${preset}.build PROPERTIES
    FIXTURES_SETUP tree.${preset} TIMEOUT ${no_limit} PROCESSORS 2 LABELS slow)
endfunction()

# isonorm_in_tree(NAME PRESET TIMEOUT COMMAND ...): a test that needs that tree.
function(isonorm_in_tree name preset timeout)
  add_test(NAME gate.${preset}.${name} COMMAND ${ARGN})
  set_tests_properties(gate.${preset}.${name} PROPERTIES FIXTURES_REQUIRED tree.${preset} TIMEOUT ${timeout} LABELS slow)
endfunction()

# ---- sanitizers: bad input, the file formats and the layouts for memory and undefined behaviour, threads for races
function(isonorm_sanitizer preset targets tests without)
  isonorm_tree(${preset} SETTINGS -DISONORM_TEST_GATES=OFF -DISONORM_BUILD_FUZZ=ON TARGETS ${targets})
  isonorm_in_tree(tests ${preset} 3600
    ${CMAKE_CTEST_COMMAND} --test-dir ${PROJECT_BINARY_DIR}/${preset} --output-on-failure --no-tests=error -R ${tests} -E ${without} -LE slow)
endfunction()
isonorm_sanitizer(asan "fuzz_api;test_api;test_api_environment;test_formats;test_thread_pool;test_core;core_target_probe"
  "^(api|formats)\\.|^fuzz_api|ThreadPool|InPlaceTest|LayoutTest|SumsOverRows|RmsTest|TunedGateTest|TunedRopeTest|StackTest"
  AnotherThreadUsesThePoolMeanwhile)  # forked while a thread allocates: then ASan's allocator stays locked in the child
isonorm_sanitizer(tsan "test_core;core_target_probe;test_thread_pool" "ExecutorTest|OfTheExecutorsThreads|ThreadPool" nothing)

# ---- aarch64: NEON on a CPU without SVE, SVE without SVE2, and SVE at four vector lengths (given in bytes, the last one longer
# than the 64 bytes that a sum has use for), with every target that Highway has. Emulating long vectors takes long, so every
# target has all cases at one length, and every length has them on one target; the other pairs, whose instructions are the same,
# have every tenth.
isonorm_tree(aarch64 TARGETS isonorm_cli)
set(check_qemu ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/check_qemu.py)
set(aarch64_isonorm ${PROJECT_BINARY_DIR}/aarch64/bin/isonorm)
foreach(entry IN ITEMS
    "neon cortex-a72 NEON"
    "sve_alone a64fx SVE"
    "sve128 max,sve-default-vector-length=16 SVE2_128 SVE2:*1 SVE:*2"
    "sve256 max,sve-default-vector-length=32 SVE_256 SVE2:*3 SVE:*4"
    "sve512 max,sve-default-vector-length=64 SVE2:*5 SVE:*6"  # all cases on SVE: sve_alone, whose vectors have this length
    "sve1024 max,sve-default-vector-length=128 SVE2 SVE:*7")
  separate_arguments(words UNIX_COMMAND "${entry}")
  list(POP_FRONT words name cpu)
  isonorm_in_tree(${name} aarch64 1800 ${check_qemu} ${aarch64_isonorm} ${cpu} ${words})
endforeach()
# Bits know nothing of the plan of fetching, nor of whether results bypass the cache: a tenth of the cases under each.
foreach(entry IN ITEMS "default *8" "zen3 *9" "zen4 *0" "zen5 *1" "xeon *2")
  separate_arguments(words UNIX_COMMAND "${entry}")
  list(GET words 0 plan)
  list(GET words 1 cases)
  isonorm_in_tree(plan.${plan} aarch64 600 ${check_qemu} ${aarch64_isonorm} cortex-a72 NEON:${cases})
  set_tests_properties(gate.aarch64.plan.${plan} PROPERTIES ENVIRONMENT "ISONORM_PLAN=${plan};ISONORM_STREAM_BYTES=0")
endforeach()
# A wrong digest must be seen on every target, and a target that is not found must not pass for one that was run.
isonorm_in_tree(must_fail.digest aarch64 600 ${check_qemu} --wrong-digest ${PROJECT_SOURCE_DIR}/data/golden/public.tsv
  ${aarch64_isonorm} max,sve-default-vector-length=32 NEON SVE_256 SVE2 SVE)
isonorm_in_tree(must_fail.target aarch64 600 ${check_qemu} ${aarch64_isonorm} cortex-a72 SVE)
set_tests_properties(gate.aarch64.must_fail.target PROPERTIES
  PASS_REGULAR_EXPRESSION "isonorm finds .*; this test expects .'SVE'")
