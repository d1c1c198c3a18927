// A call of any size is cut for the executor here, so that small tests see what large calls do.
#include <gtest/gtest.h>

#include <cstdlib>

int main(int argc, char** argv) {
  setenv("ISONORM_TASK_BYTES", "1", 0);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
