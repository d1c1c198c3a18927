// The judge itself: it must notice a call that succeeds, another status, a message without the value, and a write.
#include "api/fault.h"

#include <gtest/gtest-spi.h>

namespace isonorm_test {
namespace {

TEST(Judge, ScenesAreValidBeforeTheyAreSpoilt) {
  ForwardScene forward;
  EXPECT_EQ(forward.Run(), ISONORM_OK) << isonorm_last_error();
  BackwardScene backward;
  EXPECT_EQ(backward.Run(), ISONORM_OK) << isonorm_last_error();
  for (const RmsScene::Function function : {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty}) {
    RmsScene rms;
    rms.function = function;
    EXPECT_EQ(rms.Run(), ISONORM_OK) << function << ": " << isonorm_last_error();
  }
  for (const int32_t place : {ISONORM_GATE_BEFORE, ISONORM_GATE_AFTER}) {
    ForwardScene gated;
    gated.UseGate(place);
    EXPECT_EQ(gated.Run(), ISONORM_OK) << isonorm_last_error();
    BackwardScene gated_backward;
    gated_backward.UseGate(place);
    EXPECT_EQ(gated_backward.Run(), ISONORM_OK) << isonorm_last_error();
  }
}

TEST(Judge, ValidCallsWriteEveryOutputAndNothingElse) {
  ForwardScene scene;
  scene.UseLayerNorm();
  ASSERT_EQ(scene.Run(), ISONORM_OK);
  for (auto& [name, slot] : scene.slots) {
    const bool is_output = slot == &scene.y || slot == &scene.residual_out || slot == &scene.rstd || slot == &scene.mean;
    const size_t size = slot->bytes.size() - 2 * Slot::kMargin;
    for (size_t i = 0; i < slot->bytes.size(); ++i) {
      const bool inside = i >= Slot::kMargin && i < Slot::kMargin + size;
      const uint8_t fill = is_output ? kOutputByte : kInputByte;
      ASSERT_TRUE((inside && is_output) || slot->bytes[i] == fill) << name << " byte " << i;
    }
    const std::vector<uint8_t> untouched(size, kOutputByte);
    EXPECT_NE(std::memcmp(slot->data(), untouched.data(), size), 0) << name;
  }
}

TEST(Judge, NoticesACallThatSucceeds) {
  ForwardScene scene;
  EXPECT_NE(Judge(scene, ISONORM_ERROR_EPS, {}), "");
}

TEST(Judge, NoticesAnotherStatus) {
  ForwardScene scene;
  scene.eps = -1;
  EXPECT_NE(Judge(scene, ISONORM_ERROR_SHAPE, {}), "");
}

TEST(Judge, NoticesAMessageThatLacksTheValue) {
  ForwardScene scene;
  scene.eps = -1;
  EXPECT_NE(Judge(scene, ISONORM_ERROR_EPS, {"a word that is not there"}), "");
}

// Fails like a call that stores one byte before it sees the fault.
class LeakyScene : public ForwardScene {
 public:
  isonorm_status Run() override {
    if (spoiled_byte != nullptr) ++*spoiled_byte;
    return ForwardScene::Run();
  }
  uint8_t* spoiled_byte = nullptr;
};

TEST(Judge, NoticesOneByteWrittenAnywhere) {
  LeakyScene scene;
  scene.eps = -1;
  ASSERT_EQ(Judge(scene, ISONORM_ERROR_EPS, {}), "");
  for (auto& [name, slot] : scene.slots) {
    for (uint8_t* byte : {&slot->bytes.front(), &slot->bytes.back(), reinterpret_cast<uint8_t*>(&slot->tensor.ndim),
                          reinterpret_cast<uint8_t*>(&slot->shape[0]), reinterpret_cast<uint8_t*>(&slot->strides[0])}) {
      scene.spoiled_byte = byte;
      const uint8_t was = *byte;
      // The first shape or rank of an input may change the status too; what counts is that the judge objects.
      EXPECT_NE(Judge(scene, ISONORM_ERROR_EPS, {}), "") << name;
      *byte = was;
    }
  }
}

TEST(Judge, RunFaultsReportsAFaultThatIsNone) {
  EXPECT_NONFATAL_FAILURE(RunFaults<ForwardScene>({{"nothing spoilt", ISONORM_ERROR_EPS, {}, [](ForwardScene&) {}}}),
                          "nothing spoilt");
}

}  // namespace
}  // namespace isonorm_test
