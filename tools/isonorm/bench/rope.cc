// Heads of q and k, normalised and rotated in one call.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/bench.h"
#include "bench/call.h"
#include "bench/loops.h"
#include "bench/textbook.h"
#include "bench/steps.h"

namespace isonorm_cli::bench {
namespace {

constexpr int64_t kQ = 32, kK = 8, kHeads = kQ + kK, kPackedHeads = kQ + 2 * kK;

// Cosines and sines as Llama has them, base 10000, in bf16 by cutting off what does not fit: only their place matters here.
std::vector<uint16_t> Table(int64_t tokens, int64_t half, bool sine) {
  std::vector<uint16_t> table;
  for (int64_t i = 0; i < tokens * half; ++i) {
    const int64_t position = i / half, pair = i % half;
    const double angle = static_cast<double>(position) * std::pow(1e4, -static_cast<double>(pair) / static_cast<double>(half));
    const auto value = static_cast<float>(sine ? std::sin(angle) : std::cos(angle));
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    table.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return table;
}

// q behind k in memory, or both as views of packed tokens.
class QkCall {
 public:
  QkCall(const Row& row, int64_t tokens, char* x, char* y, void* weight, isonorm_rope* rope, bool packed,
         const isonorm::contract& contract = isonorm::contracts::torch)
      : contract_(isonorm::to_c(contract)) {
    const int64_t size = isonorm::size_of(row.type), token = (packed ? kPackedHeads : 0) * row.cols;
    for (int i = 0; i < 2; ++i) {
      const int64_t heads = i == 0 ? kQ : kK, before = i == 0 ? 0 : kQ * (packed ? 1 : tokens) * row.cols * size;
      const int64_t shape[3] = {tokens, heads, row.cols}, strides[3] = {packed ? token : heads * row.cols, row.cols, 1};
      std::copy_n(shape, 3, shape_[i]);
      std::copy_n(strides, 3, strides_[i]);
      x_[i] = {x + before, {ISONORM_DEVICE_CPU, 0}, 3, isonorm::to_c(row.type), shape_[i], strides_[i], 0};
      y_[i] = {y + before, {ISONORM_DEVICE_CPU, 0}, 3, isonorm::to_c(row.type), shape_[i], strides_[i], 0};
      args_[i].struct_size = sizeof(args_[i]);
      args_[i].x = &x_[i];
      args_[i].y = &y_[i];
      args_[i].weight = &weight_;
      args_[i].rope = rope;
    }
    weight_ = {weight, {ISONORM_DEVICE_CPU, 0}, 1, isonorm::to_c(row.type), &shape_[0][2], nullptr, 0};
    args_[0].also = &args_[1];
  }
  QkCall(const QkCall&) = delete;
  QkCall& operator=(const QkCall&) = delete;

  void Run() const { isonorm::detail::check(isonorm_forward(&contract_, kEps, &args_[0])); }

 private:
  isonorm_contract contract_;
  int64_t shape_[2][3], strides_[2][3];
  isonorm_tensor x_[2], y_[2], weight_;
  isonorm_forward_args args_[2] = {};
};

}  // namespace

// Streaming against a copy of q and k; a few tokens again and again against the same norm without rotation.
Result RunRope(const Row& row, const Settings& settings, Arena& arena) {
  const bool stream = row.kind == Kind::kRope;
  const int64_t tokens = settings.quick ? std::min<int64_t>(row.rows, 64) : row.rows, half = row.cols / 2;
  const auto bytes = static_cast<size_t>(tokens * kHeads * row.cols * isonorm::size_of(row.type));
  arena.Prepare(row.type, bytes / kHeads * kPackedHeads, tokens, row.cols);
  auto* const x = static_cast<char*>(arena.x());
  auto* const y = static_cast<char*>(arena.y());
  std::vector<uint16_t> cos = Table(tokens, half, false), sin = Table(tokens, half, true);
  int64_t table[2] = {tokens, half};
  const isonorm_tensor of_cos = {cos.data(), {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_BF16, table, nullptr, 0};
  const isonorm_tensor of_sin = {sin.data(), {ISONORM_DEVICE_CPU, 0}, 2, ISONORM_BF16, table, nullptr, 0};
  isonorm_rope rope = {sizeof rope, ISONORM_ROPE_HALF, 0, &of_cos, &of_sin, nullptr, 0};

  const LimitLoops& limit = BestLoops().limits;
  const QkCall call(row, tokens, x, y, arena.weight(), &rope, false);
  const QkCall norm(row, tokens, x, y, arena.weight(), nullptr, false);
  const QkCall llama(row, tokens, x, y, arena.weight(), &rope, false, isonorm::contracts::llama);
  auto* const z = static_cast<char*>(arena.z());
  const QkCall packed(row, tokens, z, z, arena.weight(), &rope, true);
  std::vector<Candidate> candidates;
  if (stream) {
    candidates.push_back({"memcpy", [=] { std::memcpy(y, x, bytes); }, {}});
    candidates.push_back({"copy", [=] { limit.copy(x, y, bytes); }, {}});
    candidates.push_back({"streaming copy", [=] { limit.copy_stream(x, y, bytes); }, {}});
  } else {
    candidates.push_back({"the norm alone", [&] { norm.Run(); }, {}});
  }
  const size_t limits = candidates.size();
  candidates.push_back({"isonorm", [&] { call.Run(); }, {}});
  candidates.push_back({"contract llama", [&] { llama.Run(); }, {}});
  candidates.push_back({"packed, in place", [&] { packed.Run(); }, {}});
  if (stream) candidates.push_back({"the norm alone", [&] { norm.Run(); }, {}});
  if (TextbookLoopsRun()) {
    const auto rotate = [&] {
      norm.Run();
      RotateHeads(y, cos.data(), sin.data(), tokens, kQ, row.cols);
      RotateHeads(y + tokens * kQ * row.cols * 2, cos.data(), sin.data(), tokens, kK, row.cols);
    };
    candidates.push_back({"unfused", rotate, {}});
  }

  const int rounds = settings.quick ? 2 : settings.rounds;
  const Times times = Race(candidates, stream ? RaceOptions{rounds, 0} : RaceOptions{4 * rounds, settings.quick ? 1e-5 : 1e-3});
  const size_t best = Fastest(times, 0, limits);
  Result result;
  result.name = row.name;
  result.kind = row.kind;
  result.unit = stream ? Unit::kPercentOfLimit : Unit::kTimesReference;
  result.seconds = Median(times[limits]);
  result.bytes = 2.0 * static_cast<double>(bytes);
  result.reference = {candidates[best].name, Median(times[best])};
  result.Set(stream ? SpreadOfRatio(times[best], times[limits], 100) : SpreadOfRatio(times[limits], times[best]));
  result.goal = row.goal;
  for (size_t i = limits + 1; i < candidates.size(); ++i) result.beside.push_back({candidates[i].name, Median(times[i])});
  if (TextbookLoopsRun()) result.plain = Plain{result.beside.back(), SpreadOfRatio(times.back(), times[limits])};
  call.Run();
  result.kernel = isonorm::last_kernel();
  return result;
}

}  // namespace isonorm_cli::bench
