#include "call.h"

#include <charconv>
#include <stdexcept>

namespace isonorm_torch {
namespace {

struct Job {
  void (*task)(void* context, std::int64_t index);
  void* context;
};

void ParallelFor(void*, std::int64_t count, void (*task)(void*, std::int64_t), void* context) {
  Job job{task, context};
  // Within a parallel region of torch's this runs every index on the calling thread.
  torch_parallel_for(
      0, count, 1,
      [](std::int64_t begin, std::int64_t end, void* pointer) {
        const Job& own = *static_cast<const Job*>(pointer);
        for (std::int64_t i = begin; i < end; ++i) own.task(own.context, i);
      },
      &job);
}

[[noreturn]] void BadContract(const std::string& text) {
  throw std::runtime_error("contract '" + text + "' is neither a name nor the text of an isonorm.Contract");
}

}  // namespace

isonorm_contract ContractOf(const std::string& text) {
  isonorm_contract contract = Sized<isonorm_contract>();
  if (text.find('\0') != std::string::npos) throw std::runtime_error("contract has a zero byte, which no name has");
  if (text.empty() || text[0] < '0' || text[0] > '9') {
    if (isonorm_contract_by_name(text.c_str(), &contract, sizeof contract) != ISONORM_OK) {
      const std::string sentence = isonorm_last_error();
      throw std::runtime_error(sentence.starts_with("name is") ? "contract" + sentence.substr(4) : sentence);
    }
    return contract;
  }
  const char* at = text.data();
  const char* const end = at + text.size();
  for (std::int32_t* field : {&contract.statistic, &contract.eps_place, &contract.scaled_rounding, &contract.sum_rounding,
                              &contract.gate_place, &contract.gate_function, &contract.rotation_rounding}) {
    const auto read = std::from_chars(at, end, *field);
    if (read.ec != std::errc() || read.ptr == end || *read.ptr != ',') BadContract(text);
    at = read.ptr + 1;
  }
  const auto read = std::from_chars(at, end, contract.weight_offset);
  if (read.ec != std::errc() || read.ptr != end) BadContract(text);
  return contract;
}

Executor::Executor() : executor_(Sized<isonorm_executor>()) {
  std::uint32_t threads = 1;
  CheckTorch(torch_get_num_threads(&threads));
  executor_.concurrency = static_cast<std::int32_t>(threads);
  executor_.parallel_for = &ParallelFor;
}

Rope::Rope(Arguments& arguments)
    : cos_handle_(arguments.OptionalTensor()),
      sin_handle_(arguments.OptionalTensor()),
      positions_handle_(arguments.OptionalTensor()),
      rope_(Sized<isonorm_rope>()) {
  rope_.style = arguments.Choice();
  rope_.position_dim = arguments.Choice();
  rope_.position_offset = arguments.Int();
}

const isonorm_rope* Rope::Get(const Input& x) {
  if (!cos_handle_) return nullptr;
  if (x.ndim() > kMaxDims) {
    throw std::runtime_error("x has " + std::to_string(x.ndim()) + " dimensions, but a rotation takes at most 7");
  }
  cos_.Read(cos_handle_);
  sin_.Read(sin_handle_);
  positions_.Read(positions_handle_);
  rope_.cos = cos_.get();
  rope_.sin = sin_.get();
  rope_.positions = positions_.get();
  return &rope_;
}

}  // namespace isonorm_torch
