// Structures whose size is not today's: every structure of the C ABI, in every function that takes it.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>

#include "api/double_scene.h"
#include "api/fault.h"
#include "api/rope_scene.h"

namespace isonorm_test {
namespace {

constexpr size_t kMost = 4096;

// A structure as a header of another version would make it: its fields, and what lies behind them.
template <class S>
class Room {
 public:
  explicit Room(const S& fields) : memory_(kMost / sizeof(uint64_t) + 1) {
    std::memcpy(memory_.data(), &fields, sizeof fields);
  }
  S* structure() { return reinterpret_cast<S*>(memory_.data()); }
  S* OfSize(size_t size) {
    std::memcpy(memory_.data(), &size, sizeof size);  // struct_size, first in each of them
    return structure();
  }
  void Set(size_t at, unsigned char value) { reinterpret_cast<unsigned char*>(memory_.data())[at] = value; }

 private:
  std::vector<uint64_t> memory_;
};

// run(structure): a call that is right but for the size.
template <class S>
void TakesEverySize(const char* argument, const char* type, const S& fields,
                    const std::function<isonorm_status(const S*)>& run) {
  Room<S> room(fields);
  const std::string name = std::string(argument) + ".struct_size", text = name + " in " + type;
  ASSERT_EQ(run(room.structure()), ISONORM_OK) << isonorm_last_error();
  for (const size_t size : {size_t{0}, size_t{1}, size_t{8}, sizeof(S) / 2 + 1, sizeof(S) - 8, sizeof(S) - 1, sizeof(S) + 1,
                            sizeof(S) + 4, sizeof(S) + 7, kMost + 8, SIZE_MAX - 7, SIZE_MAX}) {
    EXPECT_EQ(run(room.OfSize(size)), ISONORM_ERROR_STRUCT_SIZE) << text << " of " << size << ": " << isonorm_last_error();
    const std::string message = isonorm_last_error();
    for (const std::string& part : {name, std::to_string(size), std::to_string(sizeof(S)), std::string(type)}) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    }
  }
  for (const size_t size : {sizeof(S) + 8, sizeof(S) + 64, kMost}) {
    EXPECT_EQ(run(room.OfSize(size)), ISONORM_OK) << text << " of " << size << ": " << isonorm_last_error();
    for (const size_t at : {sizeof(S), size - 1}) {
      room.Set(at, 1);
      EXPECT_EQ(run(room.OfSize(size)), ISONORM_ERROR_STRUCT_SIZE) << text << " of " << size << ", set at " << at;
      EXPECT_NE(std::string(isonorm_last_error()).find(type), std::string::npos) << isonorm_last_error();
      EXPECT_NE(std::string(isonorm_last_error()).find(std::to_string(at)), std::string::npos) << isonorm_last_error();
      room.Set(at, 0);
    }
    if (size == kMost) continue;
    room.Set(size, 1);  // behind it
    EXPECT_EQ(run(room.OfSize(size)), ISONORM_OK) << text << " of " << size << ": " << isonorm_last_error();
    room.Set(size, 0);
  }
  EXPECT_EQ(run(nullptr) == ISONORM_OK || std::string(isonorm_last_error()).find("null") != std::string::npos, true)
      << isonorm_last_error();
}

TEST(Structure, Arguments) {
  ForwardScene forward;
  TakesEverySize<isonorm_forward_args>("args", "isonorm_forward_args", forward.args,
                                       [&](const auto* args) { return isonorm_forward(&forward.contract, 1e-6, args); });
  size_t bytes = 0;
  TakesEverySize<isonorm_forward_args>("args", "isonorm_forward_args", forward.args, [&](const auto* args) {
    return isonorm_forward_workspace(&forward.contract, 1e-6, args, &bytes);
  });
  BackwardScene backward;
  ASSERT_EQ(backward.Measure(), ISONORM_OK);
  TakesEverySize<isonorm_backward_args>("args", "isonorm_backward_args", backward.args,
                                        [&](const auto* args) { return isonorm_backward(&backward.contract, 1e-6, args); });
  TakesEverySize<isonorm_backward_args>("args", "isonorm_backward_args", backward.args, [&](const auto* args) {
    return isonorm_backward_workspace(&backward.contract, 1e-6, args, &bytes);
  });
  DoubleScene twice;
  TakesEverySize<isonorm_double_backward_args>("args", "isonorm_double_backward_args", twice.args, [&](const auto* args) {
    return isonorm_double_backward(&twice.contract, 1e-6, args);
  });
  RmsScene rms;
  TakesEverySize<isonorm_rms_args>("args", "isonorm_rms_args",
                                   {sizeof(isonorm_rms_args), &rms.x.tensor, &rms.rms.tensor, nullptr, nullptr}, isonorm_rms);
  TakesEverySize<isonorm_rms_backward_args>(
      "args", "isonorm_rms_backward_args",
      {sizeof(isonorm_rms_backward_args), &rms.x.tensor, &rms.drms.tensor, &rms.dx.tensor, nullptr, nullptr},
      isonorm_rms_backward);
  TakesEverySize<isonorm_rms_penalty_args>(
      "args", "isonorm_rms_penalty_args",
      {sizeof(isonorm_rms_penalty_args), &rms.x.tensor, &rms.penalty.tensor, nullptr, 1.0, 0, 0, nullptr, nullptr},
      isonorm_rms_penalty);
  Slot parts, gradient;
  parts.Set(kInputByte, ISONORM_F32, {3, kCols});
  gradient.Set(kOutputByte, ISONORM_F32, {kCols});
  TakesEverySize<isonorm_combine_args>(
      "args", "isonorm_combine_args",
      {sizeof(isonorm_combine_args), &parts.tensor, &gradient.tensor, 96, 32, 0, 0, nullptr, nullptr},
      isonorm_combine_gradients);
}

TEST(Structure, TheUsualCall) {  // which is made without steps
  ForwardScene scene;
  scene.args.bias = scene.args.residual = scene.args.residual_out = scene.args.rstd = nullptr;
  TakesEverySize<isonorm_forward_args>("args", "isonorm_forward_args", scene.args,
                                       [&](const auto* args) { return isonorm_forward(&scene.contract, 1e-6, args); });
  TakesEverySize<isonorm_contract>("contract", "isonorm_contract", scene.contract,
                                   [&](const auto* contract) { return isonorm_forward(contract, 1e-6, &scene.args); });
  TakesEverySize<isonorm_executor>("executor", "isonorm_executor", scene.executor, [&](const auto* executor) {
    scene.args.executor = executor;
    return isonorm_forward(&scene.contract, 1e-6, &scene.args);
  });
}

TEST(Structure, FurtherArguments) {
  RopeScene scene;
  ForwardScene also;
  also.args.struct_size = sizeof also.args;
  TakesEverySize<isonorm_forward_args>("args", "isonorm_forward_args", also.args, [&](const auto* args) {
    scene.args.also = args;
    return scene.Run();
  });
  BackwardRopeScene backward;
  BackwardScene further;
  further.args.workspace = nullptr;
  further.args.workspace_size = 0;
  std::vector<uint8_t> workspace(1 << 20);
  backward.args.workspace = workspace.data();
  backward.args.workspace_size = workspace.size();
  TakesEverySize<isonorm_backward_args>("args", "isonorm_backward_args", further.args, [&](const auto* args) {
    backward.args.also = args;
    return backward.Run();
  });
}

TEST(Structure, Contract) {
  BackwardScene backward;
  ASSERT_EQ(backward.Measure(), ISONORM_OK);
  TakesEverySize<isonorm_contract>("contract", "isonorm_contract", backward.contract,
                                   [&](const auto* contract) { return isonorm_backward(contract, 1e-6, &backward.args); });
  DoubleScene twice;
  TakesEverySize<isonorm_contract>("contract", "isonorm_contract", twice.contract,
                                   [&](const auto* contract) { return isonorm_double_backward(contract, 1e-6, &twice.args); });
}

TEST(Structure, Rope) {
  RopeScene scene;
  TakesEverySize<isonorm_rope>("rope", "isonorm_rope", scene.rope, [&](const auto* rope) {
    scene.args.rope = rope;
    return scene.Run();
  });
  BackwardRopeScene backward;
  ASSERT_EQ(backward.Measure(), ISONORM_OK);
  TakesEverySize<isonorm_rope>("rope", "isonorm_rope", backward.rope, [&](const auto* rope) {
    backward.args.rope = rope;
    return backward.Run();
  });
}

TEST(Structure, Quantization) {
  ForwardScene scene;
  Slot scale;
  scale.Set(kOutputByte, ISONORM_F32, {kRows});
  scene.y.Retype(ISONORM_E4M3);
  scene.args.scale = &scale.tensor;
  TakesEverySize<isonorm_quantization>("quantization", "isonorm_quantization",
                                       {sizeof(isonorm_quantization), ISONORM_SCALE_DYNAMIC, {0, 0, 0}, 0, 0, 0},
                                       [&](const auto* quantization) {
                                         scene.args.quantization = quantization;
                                         return quantization == nullptr ? ISONORM_OK : scene.Run();
                                       });
}

TEST(Structure, Shard) {
  ForwardScene scene;
  Slot partial, statistic;
  partial.Set(kOutputByte, ISONORM_F32, {kRows, 1});
  statistic.Set(kOutputByte, ISONORM_F32, {kRows, 4});
  const isonorm_shard shard = {sizeof shard, 1, &partial.tensor, nullptr, &statistic.tensor};
  TakesEverySize<isonorm_shard>("shard", "isonorm_shard", shard, [&](const auto* at) {
    return isonorm_forward_partial(&scene.contract, 1e-6, &scene.args, at, 0);
  });
}

// Every function that has an executor, with tasks for it and without.
TEST(Structure, Executor) {
  ForwardScene forward;
  TakesEverySize<isonorm_executor>("executor", "isonorm_executor", forward.executor, [&](const auto* executor) {
    forward.args.executor = executor;
    return forward.Run();
  });
  BackwardScene backward;
  TakesEverySize<isonorm_executor>("executor", "isonorm_executor", backward.executor, [&](const auto* executor) {
    backward.args.executor = executor;
    const isonorm_status status = backward.Measure();
    return status == ISONORM_OK ? backward.Run() : status;
  });
  for (const RmsScene::Function function : {RmsScene::kRms, RmsScene::kBackward, RmsScene::kPenalty}) {
    RmsScene rms;
    rms.function = function;
    TakesEverySize<isonorm_executor>("executor", "isonorm_executor", rms.executor, [&](const auto* executor) {
      rms.executor_pointer = executor;
      return rms.Run();
    });
  }
  ForwardScene reserved;
  reserved.args.executor = &reserved.executor;
  reserved.executor.reserved = 1;
  EXPECT_EQ(Judge(reserved, ISONORM_ERROR_EXECUTOR, {"executor.reserved", "1"}), "");
}

// Of a structure that is refused for its size nothing else is read: behind this one there is no memory.
TEST(Structure, NothingBehindASizeThatIsRefused) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const pages = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(mprotect(static_cast<char*>(pages) + page, page, PROT_NONE), 0);
  void* const last = static_cast<char*>(pages) + page - sizeof(size_t);
  const isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  size_t bytes = 0;
  for (const size_t size : {size_t{0}, sizeof(size_t), kMost + 8, SIZE_MAX - 7}) {
    std::memcpy(last, &size, sizeof size);
    const auto* const forward = static_cast<const isonorm_forward_args*>(last);
    const auto* const backward = static_cast<const isonorm_backward_args*>(last);
    const auto* const twice = static_cast<const isonorm_double_backward_args*>(last);
    EXPECT_EQ(isonorm_forward(&contract, 1e-6, forward), ISONORM_ERROR_STRUCT_SIZE) << size;
    EXPECT_EQ(isonorm_forward_workspace(&contract, 1e-6, forward, &bytes), ISONORM_ERROR_STRUCT_SIZE) << size;
    EXPECT_EQ(isonorm_backward(&contract, 1e-6, backward), ISONORM_ERROR_STRUCT_SIZE) << size;
    EXPECT_EQ(isonorm_backward_workspace(&contract, 1e-6, backward, &bytes), ISONORM_ERROR_STRUCT_SIZE) << size;
    EXPECT_EQ(isonorm_double_backward(&contract, 1e-6, twice), ISONORM_ERROR_STRUCT_SIZE) << size;
    EXPECT_EQ(isonorm_rms(static_cast<const isonorm_rms_args*>(last)), ISONORM_ERROR_STRUCT_SIZE) << size;
    ForwardScene scene;
    scene.contract_pointer = static_cast<const isonorm_contract*>(last);
    EXPECT_EQ(scene.Run(), ISONORM_ERROR_STRUCT_SIZE) << size;
  }
  munmap(pages, 2 * page);
}

TEST(Structure, ContractByNameWritesTheCallersSize) {
  Room<isonorm_contract> room({});
  isonorm_contract* const contract = room.structure();
  for (const size_t size : {size_t{0}, sizeof(*contract) - 8, sizeof(*contract) + 4, kMost + 8}) {
    EXPECT_EQ(isonorm_contract_by_name("llama", contract, size), ISONORM_ERROR_STRUCT_SIZE);
    for (const std::string part : {"size", "isonorm_contract"}) {
      EXPECT_NE(std::string(isonorm_last_error()).find(part), std::string::npos) << isonorm_last_error();
    }
  }
  for (const size_t size : {sizeof(*contract), sizeof(*contract) + 8, kMost}) {
    std::memset(static_cast<void*>(contract), kOutputByte, kMost + 8);
    ASSERT_EQ(isonorm_contract_by_name("llama", contract, size), ISONORM_OK) << isonorm_last_error();
    EXPECT_EQ(contract->struct_size, size);
    EXPECT_EQ(contract->scaled_rounding, ISONORM_ROUND_TO_X);
    for (size_t at = sizeof(*contract); at < kMost + 8; ++at) {
      ASSERT_EQ(reinterpret_cast<unsigned char*>(contract)[at], at < size ? 0 : kOutputByte) << at << " of " << size;
    }
    ForwardScene scene;
    scene.contract_pointer = contract;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
}

}  // namespace
}  // namespace isonorm_test
