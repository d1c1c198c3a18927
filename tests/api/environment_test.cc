// ISONORM_TARGET is read at the first call of a process, so this is a program of its own, which CMakeLists.txt starts with
// ISONORM_TARGET=NO_SUCH_TARGET. Started without, it fails.
#include <cstdlib>

#include "api/fault.h"

namespace isonorm_test {
namespace {

TEST(Environment, AnAbsentTargetFailsEveryComputation) {
  ASSERT_STREQ(std::getenv("ISONORM_TARGET"), "NO_SUCH_TARGET") << "start this test through ctest";
  EXPECT_STREQ(isonorm_target(), "");
  ForwardScene forward;
  EXPECT_EQ(Judge(forward, ISONORM_ERROR_TARGET, {"NO_SUCH_TARGET"}), "");
  BackwardScene backward;
  EXPECT_EQ(Judge(backward, ISONORM_ERROR_TARGET, {"NO_SUCH_TARGET"}), "");
  for (const RmsScene::Function function : {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty}) {
    RmsScene rms;
    rms.function = function;
    EXPECT_EQ(Judge(rms, ISONORM_ERROR_TARGET, {"NO_SUCH_TARGET"}), "");
  }
  ASSERT_EQ(isonorm_set_target("reference"), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();
}

}  // namespace
}  // namespace isonorm_test
