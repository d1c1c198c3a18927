// A row for each kernel that the library lists, in cache: so that none gets slower unseen. They have no goals.
#include <fmt/format.h>
#include <isonorm/parallel.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"

namespace isonorm_cli::bench {
namespace {

using isonorm::dtype;

constexpr const char* kPrefix = "table.";

// The parts of a kernel's name.
struct Parts {
  std::string operation, source, sink, x, weight, out;
};

Parts PartsOf(const std::string& kernel) {
  Parts parts;
  std::istringstream text(kernel);
  for (std::string* part : {&parts.operation, &parts.source, &parts.sink, &parts.x, &parts.weight, &parts.out}) {
    std::getline(text, *part, '.');
  }
  return parts;
}

dtype TypeNamed(const std::string& name) {
  constexpr std::array<std::pair<const char*, dtype>, 6> kTypes = {{{"bf16", dtype::bf16},
                                                                    {"f16", dtype::f16},
                                                                    {"f64", dtype::f64},
                                                                    {"i8", dtype::i8},
                                                                    {"e4m3", dtype::e4m3},
                                                                    {"e5m2", dtype::e5m2}}};
  for (const auto& [word, type] : kTypes) {
    if (name == word) return type;
  }
  return dtype::f32;  // "any" too
}

// A call that the kernel is for. Such a call of a general kernel has a bias, or asks for its gradient, which only LayerNorm's
// tuned loops do.
class KernelCall {
 public:
  KernelCall(const std::string& kernel, int64_t rows, int64_t cols, Arena& arena)
      : parts_(PartsOf(kernel)), rows_(rows), cols_(cols), type_(TypeNamed(parts_.x)), arena_(arena) {
    const auto bytes = static_cast<size_t>(rows * cols * 20);  // a copy moves half of up to five tensors of f64
    arena.Prepare(type_, bytes, rows * 2, cols * 2);           // f64 too
    arena.PrepareMore(type_, bytes);
    if (type_ == dtype::f64) {
      std::fill_n(static_cast<double*>(static_cast<void*>(arena.rstd())), rows, 1.0);
    } else {
      std::fill_n(arena.rstd(), rows, 1.0f);
    }
    if (parts_.source == "gate") contract_.gate_place = ISONORM_GATE_BEFORE;
    if (parts_.source == "centred") contract_.statistic = ISONORM_STATISTIC_LAYER;
    if (parts_.sink == "gate") contract_.gate_place = ISONORM_GATE_AFTER;
    const std::string& operation = parts_.operation;
    if (operation == "forward" || operation == "forward_partial") Forward();
    if (operation == "backward" || operation == "backward_partial") Backward();
    if (operation == "double_backward") DoubleBackward();
    if (operation.starts_with("rms")) Rms();
  }
  KernelCall(const KernelCall&) = delete;
  KernelCall& operator=(const KernelCall&) = delete;

  void Run() const { isonorm::detail::check(run_()); }
  double bytes() const { return bytes_; }  // of the row tensors

 private:
  const isonorm_tensor* Of(void* data, dtype type, std::vector<int64_t> shape) {
    double bytes = static_cast<double>(isonorm::size_of(type));
    for (const int64_t size : shape) bytes *= static_cast<double>(size);
    if (shape.size() > 1 && shape.back() == cols_) bytes_ += bytes;
    shapes_.push_back(std::move(shape));
    std::vector<int64_t>& kept = shapes_.back();
    tensors_.push_back(
        {data, {ISONORM_DEVICE_CPU, 0}, static_cast<int32_t>(kept.size()), isonorm::to_c(type), kept.data(), nullptr, 0});
    return &tensors_.back();
  }
  const isonorm_tensor* Rows(void* data) { return Of(data, type_, {rows_, cols_}); }
  const isonorm_tensor* Vector(void* data, dtype type) { return Of(data, type, {cols_}); }
  const isonorm_tensor* PerRow() { return Of(arena_.rstd(), compute(), {rows_}); }
  dtype compute() const { return type_ == dtype::f64 ? dtype::f64 : dtype::f32; }
  const isonorm_tensor* Weight() {
    return parts_.weight == "none" ? nullptr
                                   : Vector(arena_.weight(), parts_.weight == "any" ? type_ : TypeNamed(parts_.weight));
  }
  const isonorm_tensor* Bias() {
    return parts_.source == "any" || parts_.source == "centred" ? Vector(arena_.v(), type_) : nullptr;
  }
  void* Workspace(size_t bytes) {
    workspace_.resize(bytes);
    return workspace_.data();
  }

  void Shard() {
    shard_.struct_size = sizeof shard_;
    shard_.ranks = 2;
    exchange_.resize(static_cast<size_t>(rows_) * 5);
    shard_.statistic = Of(exchange_.data(), compute(), {rows_, 4});
    shard_.partial = Of(exchange_.data() + 4 * rows_, compute(), {rows_, 1});
  }

  void Forward() {
    forward_.struct_size = sizeof forward_;
    forward_.x = Rows(arena_.x());
    forward_.weight = Weight();
    forward_.bias = Bias();
    if (parts_.operation == "forward_partial") {
      Shard();
      forward_.y = &tensors_.emplace_back(*forward_.x);
      tensors_.back().data = arena_.y();
      run_ = [this] { return isonorm_forward_partial(&contract_, kEps, &forward_, &shard_, 0); };
      return;
    }
    forward_.y = Of(arena_.y(), parts_.out == "any" ? type_ : TypeNamed(parts_.out), {rows_, cols_});
    if (parts_.source == "residual") {
      forward_.residual = Rows(arena_.z());
      forward_.residual_out = Rows(arena_.u());
    }
    if (contract_.gate_place != ISONORM_GATE_NONE) forward_.gate = Rows(arena_.z());
    if (parts_.sink == "quantize") {
      quantization_.struct_size = sizeof quantization_;
      quantization_.scale_kind = ISONORM_SCALE_DYNAMIC;
      forward_.quantization = &quantization_;
      forward_.scale = Of(arena_.rstd(), dtype::f32, {rows_});
    }
    if (parts_.sink == "rope") {
      const auto* cos = Of(arena_.z(), type_, {rows_, cols_ / 2});
      rope_ = {sizeof rope_, ISONORM_ROPE_HALF, 0, cos, Of(arena_.v(), type_, {rows_, cols_ / 2}), nullptr, 0};
      forward_.rope = &rope_;
    }
    run_ = [this] { return isonorm_forward(&contract_, kEps, &forward_); };
  }

  void Backward() {
    backward_.struct_size = sizeof backward_;
    backward_.x = Rows(arena_.x());
    backward_.dy = Rows(arena_.v());
    backward_.weight = Weight();
    backward_.dx = Rows(arena_.y());
    if (contract_.gate_place != ISONORM_GATE_NONE) {
      backward_.gate = Rows(arena_.z());
      backward_.dgate = Rows(arena_.u());
    }
    if (backward_.weight != nullptr) {
      backward_.dweight = &tensors_.emplace_back(*backward_.weight);
      tensors_.back().data = arena_.dweight();
    }
    if (parts_.operation == "backward_partial") {
      Shard();
      run_ = [this] { return isonorm_backward_partial(&contract_, kEps, &backward_, &shard_); };
      return;
    }
    backward_.rstd = PerRow();
    if (parts_.source == "centred") backward_.mean = PerRow();
    if (parts_.source == "any" || parts_.source == "centred") backward_.dbias = Vector(arena_.u(), type_);
    isonorm::detail::check(isonorm_backward_workspace(&contract_, kEps, &backward_, &backward_.workspace_size));
    backward_.workspace = Workspace(backward_.workspace_size);
    run_ = [this] { return isonorm_backward(&contract_, kEps, &backward_); };
  }

  void DoubleBackward() {
    double_backward_.struct_size = sizeof double_backward_;
    double_backward_.x = Rows(arena_.x());
    double_backward_.dy = Rows(arena_.v());
    double_backward_.weight = Weight();
    double_backward_.ddx = Rows(arena_.z());
    double_backward_.dx = Rows(arena_.y());
    double_backward_.ddy = Rows(arena_.u());
    run_ = [this] { return isonorm_double_backward(&contract_, kEps, &double_backward_); };
  }

  void Rms() {
    rms_ = {sizeof rms_, Rows(arena_.x()), PerRow(), nullptr, nullptr};
    if (parts_.operation == "rms") {
      run_ = [this] { return isonorm_rms(&rms_); };
      return;
    }
    const isonorm_tensor* dx = Rows(arena_.y());
    rms_backward_ = {sizeof rms_backward_, rms_.x, rms_.rms, dx, nullptr, nullptr};
    rms_penalty_ = {sizeof rms_penalty_, rms_.x, rms_.rms, dx, 0.1, 0, 0, nullptr, nullptr};
    run_ = parts_.operation == "rms_backward" ? std::function([this] { return isonorm_rms_backward(&rms_backward_); })
                                              : std::function([this] { return isonorm_rms_penalty(&rms_penalty_); });
  }

  const Parts parts_;
  const int64_t rows_, cols_;
  const dtype type_;
  Arena& arena_;
  double bytes_ = 0;
  isonorm_contract contract_ = ISONORM_CONTRACT_TORCH;
  std::deque<isonorm_tensor> tensors_;
  std::deque<std::vector<int64_t>> shapes_;
  std::vector<double> exchange_;
  std::vector<std::byte> workspace_;
  isonorm_quantization quantization_ = {};
  isonorm_rope rope_ = {};
  isonorm_shard shard_ = {};
  isonorm_forward_args forward_ = {};
  isonorm_backward_args backward_ = {};
  isonorm_double_backward_args double_backward_ = {};
  isonorm_rms_args rms_ = {};
  isonorm_rms_backward_args rms_backward_ = {};
  isonorm_rms_penalty_args rms_penalty_ = {};
  std::function<isonorm_status()> run_;
};

}  // namespace

std::vector<Row> TableRows() {
  std::vector<Row> rows;
  for (const std::string& kernel : isonorm::list_kernels()) {
    const bool heads = PartsOf(kernel).sink == "rope";
    rows.push_back({kPrefix + kernel, Kind::kTable, TypeNamed(PartsOf(kernel).x), heads ? 512 : 16, heads ? 128 : 4096, {}});
  }
  return rows;
}

// Beside a copy of as many bytes as the call reads and writes, half each.
Result RunTable(const Row& row, const Settings& settings, Arena& arena) {
  const std::string kernel = row.name.substr(std::string(kPrefix).size());
  const KernelCall call(kernel, settings.quick ? row.rows / 8 : row.rows, row.cols, arena);
  const LimitLoops& limit = BestLoops().limits;
  const auto half = static_cast<size_t>(call.bytes() / 2) / 256 * 256;
  // From an input to an output: the race must not change what the call reads.
  const std::vector<Candidate> candidates = {{"copy", [&] { limit.copy(arena.x(), arena.y(), half); }, {}},
                                             {"isonorm", [&] { call.Run(); }, {}}};
  call.Run();
  Result result;
  result.kernel = isonorm::last_kernel();
  if (!result.kernel.starts_with(kernel + "@")) result.note = fmt::format("here {} ran", result.kernel);
  const Times times = Race(candidates, settings.quick ? RaceOptions{3, 2e-5} : RaceOptions{settings.rounds * 2, 2e-4});
  result.name = row.name;
  result.kind = row.kind;
  result.unit = Unit::kTimesReference;
  result.seconds = Median(times[1]);
  result.bytes = call.bytes();
  result.reference = {candidates[0].name, Median(times[0])};
  result.Set(SpreadOfRatio(times[1], times[0]));
  return result;
}

}  // namespace isonorm_cli::bench
