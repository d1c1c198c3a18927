#include "golden/run.h"

#include <array>
#include <memory>
#include <utility>

#include "golden/check.h"

namespace isonorm_cli {
namespace {

constexpr const char* kSumNames[] = {"(x, residual)", "(residual_out)"};
constexpr const char* kRstdNames[] = {", rstd recomputed", ", rstd saved"};

// One case in one setup: its tensors in memory, and the calls.
class Run {
 public:
  Run(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check)
      : golden_(golden), setup_(setup), check_(check), tensors_(golden, inputs, setup), rstd_(tensors_.Rstd()) {}

  void Forward() {
    const Owned y = tensors_.Matrix(golden_.op == Op::kForward ? golden_.out : Type::kNone);
    isonorm_forward_args args = tensors_.Forward(&whole_);
    args.y = whole_.Of(y);
    args.rstd = whole_.Of(rstd_);
    if (!y) args.rope = nullptr;  // there is nothing to rotate
    check_->Begin("forward", tensors_.InputsOf(false));
    if (!check_->Called(isonorm_forward(&golden_.contract, golden_.eps, &args))) return;
    check_->Compare(kY, y);
    check_->Compare(kRstd, rstd_);
    check_->Compare(kResidualOut, tensors_.residual_out);
    if (!golden_.has_static_scale()) check_->Compare(kScale, tensors_.scale);
  }

  // After Forward(). `saved_rstd`: pass what forward wrote, not null; `stored_sum`: pass residual_out, not x and residual.
  void Backward(bool saved_rstd, bool stored_sum) {
    const Owned dx = tensors_.Matrix(golden_.x), dweight = tensors_.Vector(golden_.weight),
                dbias = tensors_.Vector(golden_.bias), dgate = tensors_.Matrix(golden_.gate());
    isonorm_backward_args args = tensors_.Backward(stored_sum, &whole_);
    args.rstd = saved_rstd ? rstd_->tensor() : nullptr;
    args.dx = whole_.Of(dx);
    args.dweight = whole_.Of(dweight);
    args.dbias = whole_.Of(dbias);
    args.dgate = whole_.Of(dgate);
    Begin(std::string("backward of ") + kSumNames[stored_sum ? 1 : 0], saved_rstd);
    if (!check_->Called(isonorm_backward_workspace(&golden_.contract, golden_.eps, &args, &args.workspace_size), false)) return;
    std::vector<uint8_t> workspace(args.workspace_size, 0xFF);  // a NaN in every type, where anything is read before written
    args.workspace = workspace.data();
    if (!check_->Called(isonorm_backward(&golden_.contract, golden_.eps, &args))) return;
    check_->Compare(kDx, dx);
    check_->Compare(kDweight, dweight);
    check_->Compare(kDbias, dbias);
    check_->Compare(kDgate, dgate);
  }

  // After Forward().
  void DoubleBackward(bool saved_rstd) {
    const Owned dx = tensors_.Matrix(golden_.x), dweight = tensors_.Vector(golden_.weight), ddy = tensors_.Matrix(golden_.dy);
    isonorm_double_backward_args args = {};
    args.struct_size = sizeof(args);
    args.dy = whole_.Of(tensors_.dy);
    args.x = whole_.Of(tensors_.x);
    args.weight = whole_.Of(tensors_.weight);
    args.rstd = saved_rstd ? rstd_->tensor() : nullptr;
    args.ddx = whole_.Of(tensors_.ddx);
    args.ddweight = whole_.Of(tensors_.ddweight);
    args.dx = whole_.Of(dx);
    args.dweight = whole_.Of(dweight);
    args.ddy = whole_.Of(ddy);
    args.groups = golden_.groups;
    args.executor = setup_.executor;
    Begin("double backward", saved_rstd);
    const isonorm_contract* contract = &golden_.contract;
    if (!check_->Called(isonorm_double_backward_workspace(contract, golden_.eps, &args, &args.workspace_size), false)) return;
    std::vector<uint8_t> workspace(args.workspace_size, 0xFF);  // a NaN in every type, where anything is read before written
    args.workspace = workspace.data();
    if (!check_->Called(isonorm_double_backward(contract, golden_.eps, &args))) return;
    check_->Compare(kDx, dx);
    check_->Compare(kDweight, dweight);
    check_->Compare(kDdy, ddy);
  }

 private:
  void Begin(const std::string& form, bool saved_rstd) {
    std::vector<const Buffer*> inputs = tensors_.InputsOf(true);
    inputs.push_back(rstd_.get());
    check_->Begin(form + kRstdNames[saved_rstd ? 1 : 0], inputs);
  }

  const GoldenCase& golden_;
  const Setup& setup_;
  Check* check_;
  Tensors tensors_;
  Owned rstd_;
  Window whole_;
};

void CheckSetup(const GoldenCase& golden, const Inputs& inputs, const Setup& setup, Check* check) {
  Run run(golden, inputs, setup, check);
  run.Forward();
  const bool stored_sum = golden.residual != Type::kNone && golden.contract.sum_rounding == ISONORM_SUM_STORED;
  for (const bool saved_rstd : {true, false}) {
    if (golden.backward()) run.Backward(saved_rstd, false);
    if (golden.backward() && stored_sum) run.Backward(saved_rstd, true);
    if (golden.op == Op::kDoubleBackward) run.DoubleBackward(saved_rstd);
  }
  if (golden.ranks > 0) CheckShards(golden, inputs, setup, check);
  if (golden.part_rows > 0) CheckParts(golden, inputs, setup, check);
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

Produced CheckCase(const GoldenCase& golden, const std::string& target, const std::vector<Setup>& setups, Tally* tally) {
  ++tally->cases;
  Produced produced;
  const Inputs inputs(golden);
  for (const Setup& setup : setups) {
    Check check(golden, target, setup, tally, &produced);
    CheckSetup(golden, inputs, setup, &check);
  }
  // A digest for an output that no call of the case produces would otherwise never be looked at.
  for (size_t output = 0; output < kOutputCount; ++output) {
    if (!golden.expected[output] || produced[output]) continue;
    tally->Add({golden.id, golden.line, "golden file", kOutputNames[output], ToString(golden.expected[output]), "-"});
  }
  return produced;
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
