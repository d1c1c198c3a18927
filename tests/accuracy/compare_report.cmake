# docs/accuracy.md must be what the program prints: -DPROGRAM= -DEMULATOR= -DEXPECTED=
execute_process(COMMAND ${EMULATOR} ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}")
endif()
file(READ ${EXPECTED} committed)
if(NOT printed STREQUAL committed)
  message(FATAL_ERROR "${EXPECTED} is not what accuracy_report prints. If the change is meant: accuracy_report > docs/accuracy.md")
endif()
