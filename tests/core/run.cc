#include "run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <utility>

namespace core_test {
namespace {

bool IsOutput(const Problem& problem, Slot slot) {
  if (slot == kResidualOut || problem.is_statistic(slot)) return !IsBackward(problem);
  if (slot == kScale) return !problem.has_static_scale();
  return slot >= kY && slot < kCos;
}

// The tensors of one call in memory.
class Arena {
 public:
  Arena(const Problem& problem, const Values& inputs, const How& how) {
    const Layout& layout = how.layout;
    for (int i = 0; i < kSlots; ++i) {
      const Slot slot = static_cast<Slot>(i);
      if (!problem.has(slot) || layout.place[slot].over) continue;
      owned_[slot] = Make(problem, slot, layout);
      memory_[slot] = owned_[slot].get();
      const bool added_to = (how.flags & ISONORM_ACCUMULATE) != 0 && (slot == kDweight || slot == kDbias);
      if (!IsOutput(problem, slot) || added_to) memory_[slot]->Fill(inputs[slot]);
    }
    for (int i = 0; i < kSlots; ++i) {
      const std::optional<Slot>& over = layout.place[static_cast<size_t>(i)].over;
      if (problem.has(static_cast<Slot>(i)) && over) memory_[static_cast<size_t>(i)] = memory_[*over];
    }
  }

  Memory* operator[](Slot slot) const { return memory_[slot]; }
  isonorm_tensor* tensor(Slot slot) const { return memory_[slot] == nullptr ? nullptr : memory_[slot]->tensor(); }
  // Nothing lies over this input.
  bool alone(Slot slot) const {
    int users = 0;
    for (const Memory* memory : memory_) users += memory == memory_[slot] ? 1 : 0;
    return users == 1;
  }

 private:
  static std::unique_ptr<Memory> Make(const Problem& problem, Slot slot, const Layout& layout) {
    const Place& place = layout.place[slot];
    std::vector<int64_t> shape =
        problem.is_vector(slot) ? std::vector<int64_t>() : layout.lead.value_or(std::vector<int64_t>{problem.rows});
    std::vector<int64_t> strides = place.strides;
    const bool per_row =
        (problem.is_statistic(slot) && problem.groups == 1) || (slot == kScale && problem.scales() == 1) || slot == kPositions;
    if (problem.is_table(slot)) shape.push_back(problem.rows_of(slot));
    if (!per_row || shape.empty() || strides.size() > shape.size()) shape.push_back(problem.cols_of(slot));
    // A vector per row, such as rstd without groups, has its last leading dimension contiguous.
    if (!strides.empty() && strides.size() < shape.size()) strides.push_back(1);
    return std::make_unique<Memory>(std::move(shape), std::move(strides), problem.type[slot], place.offset, place.guard,
                                    place.bytes);
  }

  std::array<std::unique_ptr<Memory>, kSlots> owned_;
  std::array<Memory*, kSlots> memory_ = {};
};

// A position for each row. A single row without leading dimensions has it as offset.
isonorm_rope RopeOf(const Problem& p, const Arena& arena, const Values& inputs, const How& how) {
  isonorm_rope rope = {sizeof(rope), p.rotation.style, 0, arena.tensor(kCos), arena.tensor(kSin), nullptr, 0};
  if (!how.layout.lead.has_value() || !how.layout.lead->empty()) {
    rope.positions = arena.tensor(kPositions);
  } else {
    std::memcpy(&rope.position_offset, inputs[kPositions].data(), SizeOf(p.type[kPositions]));
  }
  return rope;
}

isonorm_status CallForward(const Problem& p, const Arena& arena, const Values& inputs, const How& how) {
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = arena.tensor(kX);
  args.weight = arena.tensor(kWeight);
  args.bias = arena.tensor(kBias);
  args.residual = arena.tensor(kResidual);
  args.gate = arena.tensor(kGate);
  args.y = arena.tensor(kY);
  args.residual_out = arena.tensor(kResidualOut);
  args.mean = arena.tensor(kMean);
  args.rstd = arena.tensor(kRstd);
  args.groups = p.groups;
  args.window = p.window;
  args.executor = how.executor;
  args.quantization = p.quantizes() ? &p.quantization : nullptr;
  args.scale = arena.tensor(kScale);
  isonorm_rope rope = {};
  if (p.rotates()) {
    rope = RopeOf(p, arena, inputs, how);
    args.rope = &rope;
  }
  if (how.before) how.before();
  const isonorm_status status = isonorm_forward(&p.contract, p.eps, &args);
  if (how.after) how.after();
  return status;
}

// Runs a call in a workspace of the size it asks for.
template <class Args>
isonorm_status RunInWorkspace(isonorm_status (*run)(const isonorm_contract*, double, const Args*),
                              isonorm_status (*measure)(const isonorm_contract*, double, const Args*, size_t*),
                              const Problem& p, const How& how, Args& args) {
  args.groups = p.groups;
  args.flags = how.flags;
  args.executor = how.executor;
  const isonorm_status status = measure(&p.contract, p.eps, &args, &args.workspace_size);
  if (status != ISONORM_OK) return status;
  // Bytes around the promised size are checked, too.
  Bytes buffer(how.workspace_offset + args.workspace_size + 64, how.workspace_fill);
  args.workspace = args.workspace_size == 0 ? nullptr : buffer.data() + how.workspace_offset;
  if (how.before) how.before();
  const isonorm_status computed = run(&p.contract, p.eps, &args);
  if (how.after) how.after();
  for (size_t i = 0; i < buffer.size(); ++i) {
    const bool inside = i >= how.workspace_offset && i < how.workspace_offset + args.workspace_size;
    if (!inside && buffer[i] != how.workspace_fill) {
      ADD_FAILURE() << "byte " << i << " beside the workspace was written: " << ToString(p);
      break;
    }
  }
  return computed;
}

isonorm_status CallBackward(const Problem& p, const Arena& arena, const Values& inputs, const How& how) {
  isonorm_backward_args args = {};
  args.struct_size = sizeof(args);
  args.dy = arena.tensor(kDy);
  args.x = arena.tensor(kX);
  args.weight = arena.tensor(kWeight);
  args.residual = arena.tensor(kResidual);
  args.residual_out = arena.tensor(kResidualOut);
  args.gate = arena.tensor(kGate);
  args.bias = arena.tensor(kBias);
  args.mean = arena.tensor(kMean);
  args.rstd = arena.tensor(kRstd);
  args.dresidual = arena.tensor(kDresidual);
  args.dx = arena.tensor(kDx);
  args.dweight = arena.tensor(kDweight);
  args.dbias = arena.tensor(kDbias);
  args.dgate = arena.tensor(kDgate);
  args.window = p.window;
  isonorm_rope rope = {};
  if (p.rotates()) {
    rope = RopeOf(p, arena, inputs, how);
    args.rope = &rope;
  }
  return RunInWorkspace(isonorm_backward, isonorm_backward_workspace, p, how, args);
}

bool IsDoubleBackward(const Problem& problem) { return problem.has(kDdx) || problem.has(kDdweight); }

isonorm_status CallDoubleBackward(const Problem& p, const Arena& arena, const How& how) {
  isonorm_double_backward_args args = {};
  args.struct_size = sizeof(args);
  args.dy = arena.tensor(kDy);
  args.x = arena.tensor(kX);
  args.weight = arena.tensor(kWeight);
  args.rstd = arena.tensor(kRstd);
  args.ddx = arena.tensor(kDdx);
  args.ddweight = arena.tensor(kDdweight);
  args.dx = arena.tensor(kDx);
  args.dweight = arena.tensor(kDweight);
  args.ddy = arena.tensor(kDdy);
  return RunInWorkspace(isonorm_double_backward, isonorm_double_backward_workspace, p, how, args);
}

std::string Hex(const Bytes& bytes, size_t at, size_t size) {
  std::string text;
  char digits[3];
  for (size_t i = size; i > 0; --i) {
    std::snprintf(digits, sizeof(digits), "%02x", bytes[at + i - 1]);
    text += digits;
  }
  return text;
}

// The kernel that ran is of the target that was chosen, and is one that the library lists.
void CheckKernel(const Problem& problem) {
  static const std::set<std::string> listed = [] {
    std::set<std::string> names;
    for (size_t i = 0; i < isonorm_kernel_count(); ++i) names.insert(isonorm_kernel_name(i));
    return names;
  }();
  const std::string kernel = isonorm_last_kernel();
  const size_t at = kernel.find('@');
  if (at == std::string::npos || kernel.substr(at + 1) != isonorm_target()) {
    ADD_FAILURE() << "target " << isonorm_target() << " was chosen, but '" << kernel << "' ran: " << ToString(problem);
  } else if (listed.count(kernel.substr(0, at)) == 0) {
    ADD_FAILURE() << "'" << kernel << "' ran, but is not in the list of kernels: " << ToString(problem);
  }
}

}  // namespace

bool IsBackward(const Problem& problem) { return problem.has(kDy); }

Values Compute(const Problem& problem, const Values& inputs, const How& how) {
  const Arena arena(problem, inputs, how);
  std::array<Bytes, kSlots> before;
  for (int i = 0; i < kSlots; ++i) {
    const Slot slot = static_cast<Slot>(i);
    if (arena[slot] != nullptr && !IsOutput(problem, slot) && arena.alone(slot)) before[slot] = arena[slot]->All();
  }
  const isonorm_status status = IsDoubleBackward(problem) ? CallDoubleBackward(problem, arena, how)
                                : IsBackward(problem)     ? CallBackward(problem, arena, inputs, how)
                                                          : CallForward(problem, arena, inputs, how);
  Values outputs;
  if (status != ISONORM_OK) {
    ADD_FAILURE() << isonorm_status_name(status) << ": " << isonorm_last_error() << "\n  " << ToString(problem);
    return outputs;
  }
  CheckKernel(problem);
  for (int i = 0; i < kSlots; ++i) {
    const Slot slot = static_cast<Slot>(i);
    if (arena[slot] == nullptr) continue;
    if (!before[slot].empty() && before[slot] != arena[slot]->All()) {
      ADD_FAILURE() << "input " << NameOf(slot) << " was written to: " << ToString(problem);
    }
    if (!IsOutput(problem, slot)) continue;
    outputs[slot] = arena[slot]->Compact();
    if (!arena[slot]->SurroundingsIntact()) {
      ADD_FAILURE() << "bytes beside " << NameOf(slot) << " were written: " << ToString(problem);
    }
  }
  return outputs;
}

bool Same(const Problem& problem, const Values& expected, const Values& got, const std::string& where, Count* count) {
  for (int i = 0; i < kSlots; ++i) {
    const Slot slot = static_cast<Slot>(i);
    if (!problem.has(slot) || !IsOutput(problem, slot)) continue;
    const size_t size = SizeOf(problem.type[slot]);
    const size_t elements = static_cast<size_t>(problem.rows_of(slot) * problem.cols_of(slot));
    if (count != nullptr) {
      ++count->outputs;
      count->elements += elements;
    }
    const Bytes &a = expected[slot], &b = got[slot];
    if (a.size() != elements * size || b.size() != elements * size) {
      ADD_FAILURE() << where << ": " << NameOf(slot) << " has " << b.size() << " bytes, but " << elements * size
                    << " are due: " << ToString(problem);
      return false;
    }
    if (a == b) continue;
    size_t at = 0;
    while (a[at] == b[at]) ++at;
    at = at / size * size;
    const size_t cols = static_cast<size_t>(problem.cols_of(slot));
    ADD_FAILURE() << where << ": " << NameOf(slot) << "[" << at / size / cols << ", " << at / size % cols << "] is "
                  << Hex(b, at, size) << ", but must be " << Hex(a, at, size) << "\n  " << ToString(problem);
    return false;
  }
  return true;
}

Values WithOneValue(const Problem& problem, Values inputs, Slot slot, bool whole) {
  const size_t size = SizeOf(problem.type[slot]), row = static_cast<size_t>(problem.cols_of(slot)) * size;
  Bytes& bytes = inputs[slot];
  for (size_t at = 0; at < bytes.size(); at += size) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(whole ? 0 : at / row * row), size,
                bytes.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return inputs;
}

std::vector<std::string> Targets() {
  std::vector<std::string> targets;
  for (size_t i = 0; i < isonorm_target_count(); ++i) targets.emplace_back(isonorm_target_name(i));
  return targets;
}

std::vector<std::string> OtherTargets() {
  std::vector<std::string> targets = Targets();
  std::erase(targets, "reference");
  return targets;
}

bool HasTunedLoops(const std::string& target) { return target.starts_with("AVX") || target.starts_with("NEON"); }

ScopedTarget::ScopedTarget(const std::string& name) : before_(isonorm_target()) {
  if (isonorm_set_target(name.c_str()) != ISONORM_OK) ADD_FAILURE() << isonorm_last_error();
}

Expected Reference(const Problem& problem, Values inputs) {
  const ScopedTarget reference("reference");
  Expected expected;
  expected.inputs = std::move(inputs);
  expected.forward = Compute(ForwardOf(problem), expected.inputs);
  for (const Slot slot : {kRstd, kMean}) expected.inputs[slot] = expected.forward[slot];
  expected.inputs[kResidualOut] = expected.forward[kResidualOut];
  expected.backward = Compute(BackwardOf(problem, Rstd::kRecomputed), expected.inputs);
  return expected;
}

}  // namespace core_test
