# A page of docs must be what the program prints: -DPROGRAM= -DEMULATOR= -DEXPECTED=
execute_process(COMMAND ${EMULATOR} ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${status}")
endif()
file(READ ${EXPECTED} committed)
if(NOT printed STREQUAL committed)
  message(FATAL_ERROR "${EXPECTED} is not what ${PROGRAM} prints. If the change is meant, replace it by that output")
endif()
