#include "golden_run.h"

#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include "golden_buffer.h"

namespace isonorm_cli {
namespace {

constexpr const char* kSumNames[] = {"(x, residual)", "(residual_out)"};

// The bytes of every input, made once for all setups of a case.
struct Inputs {
  explicit Inputs(const GoldenCase& c)
      : x(Make(c, Role::kX, c.x, c.rows)),
        weight(Make(c, Role::kWeight, c.weight, 1)),
        bias(Make(c, Role::kBias, c.bias, 1)),
        residual(Make(c, Role::kResidual, c.residual, c.rows)),
        gate(Make(c, Role::kGate, c.gate(), c.rows)),
        dy(Make(c, Role::kDy, c.backward ? c.dy : Type::kNone, c.rows)),
        dresidual(Make(c, Role::kDresidual, c.backward ? c.dresidual : Type::kNone, c.rows)) {}

  static std::vector<uint8_t> Make(const GoldenCase& c, Role role, Type type, int64_t rows) {
    return type == Type::kNone ? std::vector<uint8_t>() : MakeData(role, c.data, c.seed, rows, c.cols, type);
  }

  std::vector<uint8_t> x, weight, bias, residual, gate, dy, dresidual;
};

// One case in one setup: its tensors in memory, the calls, the comparisons.
class Run {
 public:
  Run(const GoldenCase& golden, const std::string& target, const Inputs& inputs, const Setup& setup, Tally* tally)
      : golden_(golden),
        target_(target),
        setup_(setup),
        tally_(tally),
        x_(Input(golden.x, inputs.x)),
        weight_(VectorInput(golden.weight, inputs.weight)),
        bias_(VectorInput(golden.bias, inputs.bias)),
        residual_(Input(golden.residual, inputs.residual)),
        gate_(Input(golden.gate(), inputs.gate)),
        dy_(Input(golden.backward ? golden.dy : Type::kNone, inputs.dy)),
        dresidual_(Input(golden.backward ? golden.dresidual : Type::kNone, inputs.dresidual)),
        residual_out_(Matrix(golden.residual)),
        rstd_(golden.groups == 1 ? Make(1, 1, golden.rows, golden.compute())
                                 : Make(2, golden.rows, golden.groups, golden.compute())) {}

  void Forward() {
    form_ = "forward";
    const Owned scale = Scale();
    const std::unique_ptr<Buffer> y = Matrix(golden_.backward ? Type::kNone : golden_.out);
    isonorm_forward_args args = {};
    args.struct_size = sizeof(args);
    args.x = View(x_);
    args.weight = View(weight_);
    args.bias = View(bias_);
    args.residual = View(residual_);
    args.gate = View(gate_);
    args.y = View(y);
    args.residual_out = View(residual_out_);
    args.rstd = View(rstd_);
    args.groups = golden_.groups;
    args.window = golden_.window;
    args.executor = setup_.executor;
    args.quantization = golden_.quantizes() ? &golden_.quantization : nullptr;
    args.scale = View(scale);
    Snapshot({&x_, &weight_, &bias_, &residual_, &gate_});
    if (!Called(isonorm_forward(&golden_.contract, golden_.eps, &args))) return;
    Compare(kY, y);
    Compare(kRstd, rstd_);
    Compare(kResidualOut, residual_out_);
    if (!golden_.has_static_scale()) Compare(kScale, scale);
  }

  // After Forward(). `saved_rstd`: pass what forward wrote, not null; `stored_sum`: pass residual_out, not x and residual.
  void Backward(bool saved_rstd, bool stored_sum) {
    form_ = std::string("backward of ") + kSumNames[stored_sum ? 1 : 0] + (saved_rstd ? ", rstd saved" : ", rstd recomputed");
    const std::unique_ptr<Buffer> dx = Matrix(golden_.x), dweight = Vector(golden_.weight), dbias = Vector(golden_.bias),
                                  dgate = Matrix(golden_.gate());
    isonorm_backward_args args = {};
    args.struct_size = sizeof(args);
    args.dy = View(dy_);
    args.x = stored_sum ? nullptr : View(x_);
    args.weight = View(weight_);
    args.residual = stored_sum ? nullptr : View(residual_);
    args.residual_out = stored_sum ? View(residual_out_) : nullptr;
    args.gate = View(gate_);
    args.bias = View(bias_);
    args.rstd = saved_rstd ? View(rstd_) : nullptr;
    args.dresidual = View(dresidual_);
    args.dx = View(dx);
    args.dweight = View(dweight);
    args.dbias = View(dbias);
    args.dgate = View(dgate);
    args.groups = golden_.groups;
    args.window = golden_.window;
    args.executor = setup_.executor;
    if (!Called(isonorm_backward_workspace(&golden_.contract, golden_.eps, &args, &args.workspace_size), false)) return;
    std::vector<uint8_t> workspace(args.workspace_size, 0xFF);  // a NaN in every type, where anything is read before written
    args.workspace = workspace.empty() ? nullptr : workspace.data();
    Snapshot({&x_, &weight_, &bias_, &residual_, &gate_, &dy_, &dresidual_, &residual_out_, &rstd_});
    if (!Called(isonorm_backward(&golden_.contract, golden_.eps, &args))) return;
    Compare(kDx, dx);
    Compare(kDweight, dweight);
    Compare(kDbias, dbias);
    Compare(kDgate, dgate);
  }

 private:
  using Owned = std::unique_ptr<Buffer>;

  Owned Make(int ndim, int64_t rows, int64_t cols, Type type) {
    if (type == Type::kNone) return nullptr;
    // Every tensor is moved by another amount, so that no two agree by accident.
    const int offset = setup_.offset == 0 ? 0 : 1 + (setup_.offset + 2 * static_cast<int>(made_++)) % 7;
    return std::make_unique<Buffer>(ndim, rows, cols, type, offset, ndim == 1 ? 0 : setup_.padding);
  }
  Owned Scale() {
    if (!golden_.quantizes()) return nullptr;
    if (!golden_.has_static_scale()) {
      const bool power = golden_.quantization.scale_kind == ISONORM_SCALE_POWER_OF_TWO;
      return Make(2, golden_.rows, golden_.scales(), power ? Type::kE8M0 : Type::kF32);
    }
    std::vector<uint8_t> bytes(sizeof(float));
    std::memcpy(bytes.data(), &golden_.static_scale, sizeof(float));
    return Filled(Make(1, 1, 1, Type::kF32), bytes);
  }
  Owned Matrix(Type type) { return Make(2, golden_.rows, golden_.cols, type); }
  Owned Vector(Type type) { return Make(1, 1, golden_.cols, type); }
  Owned Input(Type type, const std::vector<uint8_t>& bytes) { return Filled(Matrix(type), bytes); }
  Owned VectorInput(Type type, const std::vector<uint8_t>& bytes) { return Filled(Vector(type), bytes); }
  static Owned Filled(Owned buffer, const std::vector<uint8_t>& bytes) {
    if (buffer) buffer->Fill(bytes);
    return buffer;
  }
  static isonorm_tensor* View(const Owned& buffer) { return buffer ? buffer->tensor() : nullptr; }

  void Snapshot(std::initializer_list<const Owned*> inputs) {
    before_.clear();
    for (const Owned* input : inputs) {
      if (*input) before_.emplace_back(input->get(), (*input)->Raw());
    }
  }

  bool Called(isonorm_status status, bool computes = true) {
    ++tally_->calls;
    if (status != ISONORM_OK) {
      Report("status", "ISONORM_OK", std::string(isonorm_status_name(status)) + ": " + isonorm_last_error());
      return false;
    }
    if (!computes) return true;
    const std::string kernel = isonorm_last_kernel();
    if (!kernel.ends_with("@" + target_)) Report("target", "a kernel on " + target_, "'" + kernel + "'");
    for (const auto& [buffer, bytes] : before_) {
      if (buffer->Raw() != bytes) Report("inputs", "unchanged", "an input was written to");
    }
    return true;
  }

  void Compare(Output output, const Owned& buffer) {
    const Digest expected = golden_.expected[output];
    const Digest got = buffer ? buffer->DigestOf() : std::nullopt;
    if (!buffer && !expected) return;
    ++tally_->outputs;
    if (got != expected) Report(kOutputNames[output], ToString(expected), ToString(got));
    if (buffer && !buffer->SurroundingsIntact())
      Report(kOutputNames[output], "only its elements written", "bytes around them too");
  }

  void Report(std::string output, std::string expected, std::string got) {
    tally_->Add(
        {golden_.id, golden_.line, form_ + ", " + ToString(setup_), std::move(output), std::move(expected), std::move(got)});
  }

  const GoldenCase& golden_;
  const std::string& target_;
  const Setup& setup_;
  Tally* tally_;
  unsigned made_ = 0;  // tensors made so far
  std::string form_;
  std::vector<std::pair<const Buffer*, std::vector<uint8_t>>> before_;
  Owned x_, weight_, bias_, residual_, gate_, dy_, dresidual_, residual_out_, rstd_;
};

// A digest for an output that no call of the case produces would otherwise never be looked at.
void CheckUnproduced(const GoldenCase& golden, Tally* tally) {
  for (const Output output : {kY, kScale, kDx, kDweight, kDbias, kDgate}) {
    const bool of_backward = output != kY && output != kScale;
    if (golden.expected[output] && of_backward != golden.backward) {
      tally->Add({golden.id, golden.line, "golden file", kOutputNames[output], ToString(golden.expected[output]), "-"});
    }
  }
}

}  // namespace

std::string ToString(const Setup& setup) {
  std::string text = setup.offset == 0 ? "aligned" : "misaligned by " + std::to_string(setup.offset) + " and more elements";
  text += setup.padding == 0 ? ", compact rows" : ", rows " + std::to_string(setup.padding) + " elements apart";
  return text + (setup.executor == nullptr ? ", calling thread" : ", executor");
}

std::vector<Setup> AllSetups(const isonorm_executor* executor) {
  std::vector<Setup> setups;
  setups.reserve(16);
  for (int offset = 0; offset < 8; ++offset) setups.push_back({offset, 0, nullptr});
  setups.push_back({0, 64, nullptr});  // aligned rows with space between them
  setups.push_back({0, 3, nullptr});   // every row aligned in another way
  setups.push_back({5, 13, nullptr});
  if (executor == nullptr) return setups;
  for (const auto& [offset, padding] : {std::pair(0, 0), std::pair(3, 0), std::pair(0, 64), std::pair(5, 13)}) {
    setups.push_back({offset, padding, executor});
  }
  return setups;
}

std::vector<Setup> QuickSetups(const isonorm_executor* executor) { return {{0, 0, nullptr}, {5, 13, executor}}; }

void Tally::Add(Mismatch mismatch) {
  ++mismatches;
  if (first.size() < kKept) first.push_back(std::move(mismatch));
}

void CheckCase(const GoldenCase& golden, const std::string& target, const std::vector<Setup>& setups, Tally* tally) {
  ++tally->cases;
  CheckUnproduced(golden, tally);
  const Inputs inputs(golden);
  const bool stored_sum = golden.residual != Type::kNone && golden.contract.sum_rounding == ISONORM_SUM_STORED;
  for (const Setup& setup : setups) {
    Run run(golden, target, inputs, setup, tally);
    run.Forward();
    if (!golden.backward) continue;
    run.Backward(true, false);
    run.Backward(false, false);
    if (!stored_sum) continue;
    run.Backward(true, true);
    run.Backward(false, true);
  }
}

Tally CheckTarget(const std::vector<GoldenCase>& cases, const std::string& target, const std::vector<Setup>& setups,
                  const std::function<void()>& after_case) {
  struct Restore {
    std::string before = isonorm_target();
    ~Restore() { isonorm_set_target(before.c_str()); }
  } restore;
  Tally tally;
  if (isonorm_set_target(target.c_str()) != ISONORM_OK) {
    tally.Add({"-", "-", "isonorm_set_target", "target", target, isonorm_last_error()});
    return tally;
  }
  for (const GoldenCase& golden : cases) {
    CheckCase(golden, target, setups, &tally);
    if (after_case) after_case();
  }
  return tally;
}

}  // namespace isonorm_cli
