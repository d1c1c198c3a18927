// What the library tells about itself.
#include <set>
#include <thread>

#include "api/fault.h"

namespace isonorm_test {
namespace {

TEST(Introspection, VersionIsTheHeaders) {
  const std::string header = std::to_string(ISONORM_VERSION_MAJOR) + "." + std::to_string(ISONORM_VERSION_MINOR) + "." +
                             std::to_string(ISONORM_VERSION_PATCH);
  EXPECT_EQ(isonorm_version(), header);
}

TEST(Introspection, ContractsByNameAreTheConstants) {
  const std::vector<std::pair<const char*, isonorm_contract>> constants = {
      {"torch", ISONORM_CONTRACT_TORCH},       {"llama", ISONORM_CONTRACT_LLAMA},
      {"onnx", ISONORM_CONTRACT_ONNX},         {"t5", ISONORM_CONTRACT_T5},
      {"gemma", ISONORM_CONTRACT_GEMMA},       {"paper", ISONORM_CONTRACT_PAPER},
      {"mamba2", ISONORM_CONTRACT_MAMBA2},     {"qwen3_next_gated", ISONORM_CONTRACT_QWEN3_NEXT_GATED},
      {"microgpt", ISONORM_CONTRACT_MICROGPT}, {"layer_norm", ISONORM_CONTRACT_LAYER_NORM}};
  std::set<std::string> listed;
  for (size_t i = 0; i < isonorm_contract_count(); ++i) listed.insert(isonorm_contract_name(i));
  EXPECT_EQ(listed.size(), constants.size());
  EXPECT_EQ(isonorm_contract_count(), constants.size());
  EXPECT_EQ(isonorm_contract_name(constants.size()), nullptr);
  EXPECT_EQ(isonorm_contract_name(SIZE_MAX), nullptr);
  for (const auto& [name, constant] : constants) {
    EXPECT_EQ(listed.count(name), 1u) << name;
    isonorm_contract contract{};
    ASSERT_EQ(isonorm_contract_by_name(name, &contract, sizeof(contract)), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(contract.struct_size, constant.struct_size) << name;
    EXPECT_EQ(contract.statistic, constant.statistic) << name;
    EXPECT_EQ(contract.eps_place, constant.eps_place) << name;
    EXPECT_EQ(contract.scaled_rounding, constant.scaled_rounding) << name;
    EXPECT_EQ(contract.sum_rounding, constant.sum_rounding) << name;
    EXPECT_EQ(contract.gate_place, constant.gate_place) << name;
    EXPECT_EQ(contract.gate_function, constant.gate_function) << name;
    EXPECT_EQ(contract.weight_offset, constant.weight_offset) << name;
    EXPECT_EQ(contract.rotation_rounding, constant.rotation_rounding) << name;
    EXPECT_NE(contract.rotation_rounding, 0) << name;
  }
}

TEST(Introspection, EveryTargetCanBeForcedAndReportsItself) {
  ASSERT_GE(isonorm_target_count(), 1u);
  const std::string best = isonorm_target_name(0);
  EXPECT_STREQ(isonorm_target_name(isonorm_target_count() - 1), "reference");
  EXPECT_EQ(isonorm_target_name(isonorm_target_count()), nullptr);
  for (size_t i = 0; i < isonorm_target_count(); ++i) {
    const std::string name = isonorm_target_name(i);
    ASSERT_EQ(isonorm_set_target(name.c_str()), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(isonorm_target(), name);
    ForwardScene scene;
    ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    const std::string ran = isonorm_last_kernel();
    EXPECT_EQ(ran.substr(0, 8), "forward.") << ran;
    EXPECT_EQ(ran.substr(ran.find('@') + 1), name) << ran;
  }
  for (const char* reset : {"", static_cast<const char*>(nullptr)}) {
    ASSERT_EQ(isonorm_set_target("reference"), ISONORM_OK);
    ASSERT_EQ(isonorm_set_target(reset), ISONORM_OK);
    EXPECT_EQ(isonorm_target(), best);
  }
}

TEST(Introspection, LastKernelBelongsToItsThread) {
  ForwardScene scene;
  ASSERT_EQ(scene.Run(), ISONORM_OK);
  EXPECT_STRNE(isonorm_last_kernel(), "");
  std::string elsewhere = "?";
  std::thread([&] { elsewhere = isonorm_last_kernel(); }).join();
  EXPECT_EQ(elsewhere, "");
}

TEST(Introspection, KernelNamesAreUniqueAndWellFormed) {
  std::set<std::string> names;
  for (size_t i = 0; i < isonorm_kernel_count(); ++i) {
    const std::string name = isonorm_kernel_name(i);
    EXPECT_TRUE(names.insert(name).second) << "twice: " << name;
    EXPECT_EQ(name.find('@'), std::string::npos) << name;
    EXPECT_NE(name.find('.'), std::string::npos) << name;
  }
  EXPECT_FALSE(names.empty());
  EXPECT_EQ(isonorm_kernel_name(isonorm_kernel_count()), nullptr);
}

TEST(Introspection, WhatRanIsAListedKernel) {
  std::set<std::string> names;
  for (size_t i = 0; i < isonorm_kernel_count(); ++i) names.insert(isonorm_kernel_name(i));
  const auto ran = [] {
    const std::string last = isonorm_last_kernel();
    return last.substr(0, last.find('@'));
  };
  ForwardScene forward;
  ASSERT_EQ(forward.Run(), ISONORM_OK);
  EXPECT_EQ(names.count(ran()), 1u) << ran();
  BackwardScene backward;
  ASSERT_EQ(backward.Run(), ISONORM_OK);
  EXPECT_EQ(names.count(ran()), 1u) << ran();
}

}  // namespace
}  // namespace isonorm_test
