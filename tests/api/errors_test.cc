// isonorm_last_error(), the names of statuses, contracts by name, and forcing a target.
#include <set>
#include <thread>

#include "api/fault.h"

namespace isonorm_test {
namespace {

TEST(Errors, EveryStatusHasItsName) {
  std::set<std::string> names;
  for (int status = ISONORM_OK; status <= ISONORM_ERROR_ROPE; ++status) {
    names.insert(isonorm_status_name(static_cast<isonorm_status>(status)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(ISONORM_ERROR_ROPE) + 1);
  EXPECT_EQ(names.count("unknown status"), 0u);
  EXPECT_STREQ(isonorm_status_name(ISONORM_OK), "ISONORM_OK");
  EXPECT_STREQ(isonorm_status_name(ISONORM_ERROR_NULL), "ISONORM_ERROR_NULL");
  EXPECT_STREQ(isonorm_status_name(ISONORM_ERROR_OVERLAP), "ISONORM_ERROR_OVERLAP");
  EXPECT_STREQ(isonorm_status_name(ISONORM_ERROR_INTERNAL), "ISONORM_ERROR_INTERNAL");
  EXPECT_STREQ(isonorm_status_name(ISONORM_ERROR_QUANTIZATION), "ISONORM_ERROR_QUANTIZATION");
  EXPECT_STREQ(isonorm_status_name(ISONORM_ERROR_SPLIT), "ISONORM_ERROR_SPLIT");
  for (const int number : {23, 31}) {
    EXPECT_STREQ(isonorm_status_name(static_cast<isonorm_status>(number)), "unknown status");
  }
}

TEST(Errors, LastErrorBelongsToItsThread) {
  ForwardScene here;
  here.eps = -3;
  ASSERT_EQ(here.Run(), ISONORM_ERROR_EPS);
  const std::string mine = isonorm_last_error();
  std::string before, theirs;
  std::thread([&] {
    before = isonorm_last_error();
    ForwardScene there;
    there.args.groups = -9;
    if (there.Run() == ISONORM_ERROR_GROUPS) theirs = isonorm_last_error();
  }).join();
  EXPECT_EQ(before, "") << "a thread without a failure has no message";
  EXPECT_NE(theirs.find("groups"), std::string::npos) << theirs;
  EXPECT_EQ(isonorm_last_error(), mine) << "another thread's failure must not show here";
}

TEST(Errors, SuccessLeavesTheMessage) {
  ForwardScene scene;
  scene.eps = -3;
  ASSERT_EQ(scene.Run(), ISONORM_ERROR_EPS);
  const std::string message = isonorm_last_error();
  scene.eps = 1e-6;
  ASSERT_EQ(scene.Run(), ISONORM_OK);
  EXPECT_EQ(isonorm_last_error(), message);
}

TEST(Errors, ContractByName) {
  std::vector<uint8_t> memory(sizeof(isonorm_contract), kOutputByte);
  const std::vector<uint8_t> untouched = memory;
  auto* const contract = reinterpret_cast<isonorm_contract*>(memory.data());
  EXPECT_EQ(isonorm_contract_by_name("lama", contract, sizeof *contract), ISONORM_ERROR_CONTRACT);
  EXPECT_NE(std::string(isonorm_last_error()).find("lama"), std::string::npos) << isonorm_last_error();
  EXPECT_EQ(isonorm_contract_by_name("", contract, sizeof *contract), ISONORM_ERROR_CONTRACT);
  EXPECT_EQ(isonorm_contract_by_name("TORCH", contract, sizeof *contract), ISONORM_ERROR_CONTRACT) << "names are exact";
  EXPECT_EQ(isonorm_contract_by_name(nullptr, contract, sizeof *contract), ISONORM_ERROR_NULL);
  EXPECT_NE(std::string(isonorm_last_error()).find("name"), std::string::npos) << isonorm_last_error();
  EXPECT_EQ(isonorm_contract_by_name("torch", nullptr, sizeof *contract), ISONORM_ERROR_NULL);
  EXPECT_NE(std::string(isonorm_last_error()).find("contract"), std::string::npos) << isonorm_last_error();
  EXPECT_EQ(memory, untouched) << "a failed call wrote the contract";
}

TEST(Errors, AnAbsentTargetIsRefusedAndTheOldOneStays) {
  const std::string before = isonorm_target();
  for (const char* name : {"AVX9000", "avx2", "reference ", "referenc"}) {
    EXPECT_EQ(isonorm_set_target(name), ISONORM_ERROR_TARGET) << name;
    EXPECT_NE(std::string(isonorm_last_error()).find(name), std::string::npos) << isonorm_last_error();
    EXPECT_EQ(isonorm_target(), before);
  }
  ForwardScene scene;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
}

}  // namespace
}  // namespace isonorm_test
