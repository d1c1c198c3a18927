#include "scene.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

#include "tally.h"

namespace isonorm_fuzz {
namespace {

constexpr std::int64_t kMostBytes = 1 << 20;

struct Span {
  std::int64_t low = 0, high = 0;  // bytes from the first element
  bool overflow = false, large = false;
};

int Rank(const Plan& plan) { return static_cast<int>(plan.shape.size()); }

Span SpanOf(const Plan& plan) {
  Span span;
  const auto size_of = static_cast<__int128>(plan.ElementSize());
  __int128 low = 0, high = size_of, elements = size_of;
  bool empty = false;
  for (int i = Rank(plan); i-- > 0;) {
    const auto at = static_cast<std::size_t>(i);
    const __int128 size = plan.shape[at];
    empty |= size <= 0;
    if (size <= 1) continue;
    const __int128 stride = plan.strides.empty() ? elements : static_cast<__int128>(plan.strides[at]) * size_of;
    span.overflow = stride > INT64_MAX || stride < INT64_MIN;
    if (span.overflow) return span;
    const __int128 reach = (size - 1) * stride;
    (reach < 0 ? low : high) += reach;
    elements *= size;
    span.overflow = high - low > INT64_MAX || elements > INT64_MAX;
    if (span.overflow) return span;
  }
  if (empty) return span;
  span.large = high - low > kMostBytes || elements > kMostBytes;  // of all elements, however they share memory
  span.low = static_cast<std::int64_t>(low);
  span.high = static_cast<std::int64_t>(high);
  return span;
}

std::uint64_t Random(std::uint64_t& state) {  // SplitMix64
  std::uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

const char* under_way = "before the first call";  // the function

// Which exponents the values of a tensor have.
enum Flavour { kUsual, kAny, kTiny, kHuge, kZero, kSparse };

// The bits of a number of a type with so many bits of exponent and of fraction.
std::uint64_t FloatBits(int exponent_bits, int fraction_bits, Flavour flavour, bool positive, std::uint64_t random) {
  const std::uint64_t most = (std::uint64_t{1} << exponent_bits) - 1, bias = most / 2;
  std::uint64_t exponent = bias - 4 + random % 8;
  if (flavour == kAny) exponent = (random >> 3) % (most + 1);
  if (flavour == kTiny) exponent = random % 3;
  if (flavour == kHuge) exponent = most - random % 4;
  if (flavour == kZero || (flavour == kSparse && (random >> 3) % 8 != 0)) return 0;
  const std::uint64_t fraction = random >> 12 & ((std::uint64_t{1} << fraction_bits) - 1);
  const std::uint64_t sign = positive ? 0 : random >> 63;
  return sign << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction;
}

}  // namespace

void Complain(const char* what) {
  std::fprintf(stderr, "fuzz_api: %s: %s; last error: \"%s\", last kernel: %s\n", under_way, what, isonorm_last_error(),
               isonorm_last_kernel());
  std::abort();
}

Plan* Scene::Tensor(isonorm_dtype dtype, std::vector<std::int64_t> shape, Fill fill) {
  Plan& plan = plans_.emplace_back();
  plan.dtype = dtype;
  plan.shape = std::move(shape);
  plan.fill = fill;
  plan.ndim = Rank(plan);
  Lay(plan);
  return &plan;
}

Plan* Scene::Output(isonorm_dtype dtype, std::vector<std::int64_t> shape) {
  Plan* plan = Tensor(dtype, std::move(shape));
  plan->output = true;
  return plan;
}

void Scene::Lay(Plan& plan) {
  plan.misaligned = bytes_.OneIn(6) ? static_cast<int>(bytes_.Below(16)) : 0;
  if (bytes_.OneIn(10)) plan.byte_offset = static_cast<std::uint64_t>(bytes_.Below(300));
  if (bytes_.OneIn(2) || plan.shape.empty()) return;  // compact, without strides
  std::vector<std::size_t> order(plan.shape.size());  // of the dimensions, the innermost first
  std::iota(order.rbegin(), order.rend(), std::size_t{0});
  if (order.size() > 2 && bytes_.OneIn(3))
    std::swap(order[1], order[1 + static_cast<std::size_t>(bytes_.Below(Rank(plan) - 1))]);
  plan.strides.assign(plan.shape.size(), 1);
  std::int64_t stride = 1;
  for (const std::size_t i : order) {
    plan.strides[i] = stride;
    stride *= std::max<std::int64_t>(plan.shape[i], 1);
    if (bytes_.OneIn(5)) stride += bytes_.Pick<std::int64_t>({1, 3, 16, 64, stride});
    if (i + 1 < plan.shape.size() && bytes_.OneIn(12)) plan.strides[i] = -plan.strides[i];
    if (bytes_.OneIn(20)) plan.strides[i] = 0;
  }
}

void Scene::MaybeOver(Plan* plan, std::initializer_list<Plan*> others) {
  if (!bytes_.OneIn(4)) return;
  Plan* other = others.begin()[bytes_.Below(static_cast<std::int64_t>(others.size()))];
  if (other == nullptr || other == plan) return;
  if (other->over != nullptr) other = other->over;
  plan->over = other;
  if (bytes_.OneIn(4)) {
    plan->distance = bytes_.Pick<std::int64_t>({1, 2, 4, -4, 8, 64, 256}) * bytes_.Pick<std::int64_t>({1, 1, 3, 64});
    return;
  }
  if (Rank(*other) == Rank(*plan)) plan->strides = other->strides;
  if (!bytes_.OneIn(4)) plan->dtype = other->dtype;
}

void Scene::SpoilTensor(Plan& plan) {
  const auto any = [&](std::vector<std::int64_t>& of) -> std::int64_t& {
    return of[static_cast<std::size_t>(bytes_.Below(static_cast<std::int64_t>(of.size())))];
  };
  switch (bytes_.Below(12)) {
    case 0: plan.absent = true; break;
    case 1: plan.no_data = true; break;
    case 2: plan.no_shape = true; break;
    case 3:
      plan.dtype = {static_cast<std::uint8_t>(bytes_.Pick({0, 1, 2, 3, 4, 10, 12, 14, 255})),
                    static_cast<std::uint8_t>(bytes_.Pick({8, 16, 32, 64, 0, 255})),
                    static_cast<std::uint16_t>(bytes_.Pick({1, 1, 1, 0, 2}))};
      break;
    case 4: plan.device = bytes_.Pick({2, 0, -1, 13}); break;
    case 5: plan.ndim = static_cast<std::int32_t>(bytes_.OneIn(2) ? bytes_.Below(9) : bytes_.Wild()); break;
    case 6: plan.byte_offset = static_cast<std::uint64_t>(bytes_.Wild()); break;
    case 7: plan.strides.clear(); break;
    case 8: any(plan.shape) = 0; break;
    case 9: any(plan.shape) += bytes_.Pick({1, -1}); break;
    case 10: any(plan.shape) = bytes_.Wild(); break;
    default:
      if (!plan.strides.empty()) any(plan.strides) = bytes_.OneIn(2) ? bytes_.Below(8) - 2 : bytes_.Wild();
  }
  if (plan.ndim > 0 && plan.ndim < 8) {
    plan.shape.resize(static_cast<std::size_t>(plan.ndim), 1);
    if (!plan.strides.empty()) plan.strides.resize(static_cast<std::size_t>(plan.ndim), 1);
  }
}

void Scene::Spoil() {
  if (!bytes_.OneIn(2)) return;
  for (std::int64_t count = 1 + bytes_.Below(2); count > 0; --count) {
    const std::int64_t which = bytes_.Below(static_cast<std::int64_t>(plans_.size() + knobs_.size()));
    if (which < static_cast<std::int64_t>(plans_.size())) {
      SpoilTensor(plans_[static_cast<std::size_t>(which)]);
    } else {
      knobs_[static_cast<std::size_t>(which) - plans_.size()]();
    }
  }
}

// One block for a tensor and those that lie in its memory, and their first elements in it.
void Scene::Place(Plan& root) {
  std::int64_t low = 0, high = 0;
  for (const Plan& plan : plans_) {
    if (&plan != &root && plan.over != &root) continue;
    const Span span = SpanOf(plan);
    const std::int64_t at = plan.over == nullptr ? 0 : plan.distance;
    low = std::min(low, at + span.low);
    high = std::max(high, at + span.high);
  }
  std::uint8_t* block = memory.Add(static_cast<std::size_t>(high - low + root.misaligned));
  for (Plan& plan : plans_) {
    if (&plan == &root || plan.over == &root)
      plan.first = block + root.misaligned - low + (plan.over == nullptr ? 0 : plan.distance);
  }
}

bool Scene::Build() {
  for (const Plan& plan : plans_) {
    if (SpanOf(plan).large) return false;
  }
  for (Plan& plan : plans_) {
    if (plan.over == nullptr) Place(plan);
  }
  for (Plan& plan : plans_) {
    const Span span = SpanOf(plan);
    if (span.high == 0) plan.first = nullptr;  // empty, or of a size that no memory has
    FillIn(plan);
    if (plan.absent) continue;
    isonorm_tensor tensor = {nullptr, {plan.device, 0}, plan.ndim, plan.dtype, nullptr, nullptr, plan.byte_offset};
    if (!plan.no_data && plan.first != nullptr) {
      tensor.data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(plan.first) - plan.byte_offset);
    } else if (!plan.no_data && span.overflow) {
      tensor.data = memory.Add(1);
    }
    const auto copy = [&](const std::vector<std::int64_t>& from) {
      return reinterpret_cast<std::int64_t*>(memory.AddCopy(from.data(), from.size() * sizeof(std::int64_t)));
    };
    if (!plan.no_shape) tensor.shape = copy(plan.shape);
    if (!plan.strides.empty()) tensor.strides = copy(plan.strides);
    plan.abi = reinterpret_cast<isonorm_tensor*>(memory.AddCopy(&tensor, sizeof tensor));
  }
  return true;
}

void Scene::FillIn(const Plan& plan) {
  if (plan.first == nullptr) return;
  const Flavour flavour = bytes_.Pick({kUsual, kUsual, kUsual, kAny, kTiny, kHuge, kZero, kSparse});
  std::uint64_t state = bytes_.Take(2);
  const bool positive = plan.fill == Fill::kPositive, wild = plan.fill == Fill::kRaw || bytes_.OneIn(30);
  const int bits = plan.dtype.bits;
  const std::size_t size = plan.ElementSize();
  const auto element = [&] {
    const std::uint64_t random = Random(state);
    if (plan.fill == Fill::kPositions && !wild) return random % static_cast<std::uint64_t>(plan.positions);
    if (!wild && plan.dtype.code == ISONORM_CODE_FLOAT && (bits == 16 || bits == 32 || bits == 64)) {
      const int exponent_bits = bits == 64 ? 11 : bits == 32 ? 8 : 5;
      return FloatBits(exponent_bits, bits - 1 - exponent_bits, positive ? kUsual : flavour, positive, random);
    }
    return !wild && plan.dtype.code == ISONORM_CODE_BFLOAT ? FloatBits(8, 7, positive ? kUsual : flavour, positive, random)
                                                           : random;
  };
  static_assert(std::endian::native == std::endian::little);
  ForEachRun(plan, [&](std::uint8_t* to, std::int64_t count) {
    for (; count > 0; --count, to += size) {
      const std::uint64_t value = element();
      std::memcpy(to, &value, std::min(size, sizeof value));
    }
  });
}

// Runs every task once, in an order of its own; or not, where it is spoilt.
const isonorm_executor* Scene::Executor() {
  if (!bytes_.OneIn(3)) return nullptr;
  struct Context {
    std::int32_t stride, mode;
  };
  const Context context = {bytes_.Pick({1, 7, 11}), bytes_.OneIn(12) ? bytes_.Pick({1, 2, 3}) : 0};
  good_executor = context.mode == 0;
  isonorm_executor executor = {};
  executor.concurrency = bytes_.Pick({2, 1, 3, 5, 8, 64});
  executor.context = memory.AddCopy(&context, sizeof context);
  executor.parallel_for = [](void* at, std::int64_t count, void (*task)(void*, std::int64_t), void* task_context) {
    Context how;
    std::memcpy(&how, at, sizeof how);
    if (how.mode == 1) return;
    std::int64_t step = how.stride;
    while (std::gcd(step, count) != 1) ++step;
    for (std::int64_t i = how.mode == 2 ? 1 : 0; i < count; ++i) task(task_context, i * step % count);
    if (how.mode == 3 && count > 0) task(task_context, 0);
  };
  if (bytes_.OneIn(40)) executor.parallel_for = nullptr;
  if (bytes_.OneIn(40)) executor.concurrency = static_cast<std::int32_t>(bytes_.Wild());
  if (bytes_.OneIn(40)) executor.reserved = 1;
  return Seal(executor);
}

void* Scene::Workspace(std::size_t& size) {
  if (size > static_cast<std::size_t>(kMostBytes) * 64) return nullptr;
  void* workspace = nullptr;
  if (size > 0 || bytes_.OneIn(8)) {
    const std::size_t shift = bytes_.OneIn(3) ? static_cast<std::size_t>(bytes_.Below(64)) : 0;
    workspace = memory.Add(size + shift) + shift;
    scratch.emplace_back(workspace, size);
  }
  if (!bytes_.OneIn(30)) return workspace;
  switch (bytes_.Below(3)) {
    case 0: return nullptr;
    case 1: --size; return workspace;  // of nothing it becomes all memory there is
    default:
      for (const Plan& plan : plans_) {
        if (plan.abi != nullptr && plan.first != nullptr && !plan.unseen && bytes_.OneIn(2)) return plan.first;
      }
      return workspace;
  }
}

// A fault of our own, so that a test sees the judge object: a wrong "result" of the best target, or a "write" to an input.
void Scene::DoWrong(const std::vector<const Plan*>& outputs) {
  const char* const wrong = std::getenv("ISONORM_FUZZ_FAULT");
  if (wrong == nullptr) return;
  if (std::strcmp(wrong, "result") == 0 && std::strcmp(isonorm_target(), "reference") != 0) {
    for (const Plan* plan : outputs) {
      if (plan != nullptr && !plan->absent && plan->first != nullptr) *plan->first ^= 1;
    }
  }
  if (std::strcmp(wrong, "write") == 0) {
    for (const Plan& plan : plans_) {
      if (!plan.output && plan.first != nullptr) *plan.first ^= 1;
    }
  }
}

void Scene::ComplainOfChanges(const Picture& before, const char* what) const {
  if (memory.Take() == before) return;
  for (const Plan& plan : plans_) {
    std::fprintf(stderr, "%s of code %d, %d bits at %p%s, shape", plan.output ? "output" : "input", plan.dtype.code,
                 plan.dtype.bits, static_cast<const void*>(plan.first), plan.absent || plan.unseen ? ", not seen" : "");
    for (const std::int64_t size : plan.shape) std::fprintf(stderr, " %" PRId64, size);
    std::fprintf(stderr, ", strides");
    for (const std::int64_t stride : plan.strides) std::fprintf(stderr, " %" PRId64, stride);
    std::fprintf(stderr, "\n");
  }
  memory.PrintChanges(before);
  Complain(what);
}

isonorm_status Scene::Try(const char* function, const std::vector<const Plan*>& outputs,
                          const std::function<isonorm_status()>& call) {
  Picture before = memory.Take();
  under_way = function;
  const isonorm_status status = call();
  Tally::Get().Count(function, status);
  if (status == ISONORM_OK) {
    DoWrong(outputs);
    for (const Plan* plan : outputs) {
      if (plan == nullptr || plan->absent) continue;
      ForEachRun(*plan, [&](std::uint8_t* at, std::int64_t count) {
        memory.Forgive(at, static_cast<std::size_t>(count) * plan->ElementSize(), before);
      });
    }
    for (const auto& [at, size] : scratch) memory.Forgive(at, size, before);
    ComplainOfChanges(before, "a call wrote beside its outputs");
    return status;
  }
  const std::string name = isonorm_status_name(status), message = isonorm_last_error();
  if (name.rfind("ISONORM_ERROR_", 0) != 0) Complain("a status without a name");
  if (status == ISONORM_ERROR_INTERNAL || status == ISONORM_ERROR_SELF_TEST) Complain("a defect");
  if (message.size() < 10 || message.back() != '.' || message.find('\n') != std::string::npos) Complain("not one sentence");
  if (good_executor) ComplainOfChanges(before, "a call that failed wrote something");
  return status;
}

}  // namespace isonorm_fuzz
