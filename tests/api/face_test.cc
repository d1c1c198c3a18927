// The C++ face: every structure written as {...}, and the calls that it makes are those of the C ABI.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <isonorm/isonorm.hpp>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#if defined(__STDCPP_BFLOAT16_T__)
#include <stdfloat>
#endif

namespace isonorm_test {
namespace {

using isonorm::dtype;
using Floats = std::vector<float>;

constexpr std::int64_t kRows = 3, kCols = 64;
constexpr double kEps = 1e-6;

Floats Some(std::int64_t count, int seed) {
  Floats values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((static_cast<int>(i) * 37 + seed) % 101 - 50);
  return values;
}

// What call() throws; ISONORM_OK if it does not.
template <class Call>
isonorm_status StatusOf(Call call) {
  try {
    call();
  } catch (const isonorm::error& error) {
    EXPECT_NE(std::string(error.what()), "");
    return error.status();
  }
  return ISONORM_OK;
}

// ------------------------------------------------------------------------------------------------------ calls in braces

TEST(Face, ForwardAndBackwardGiveTheBitsOfTheCAbi) {
  Floats x = Some(kRows * kCols, 1), dy = Some(kRows * kCols, 2), weight = Some(kCols, 3);
  Floats y(x.size()), rstd(kRows), dx(x.size()), dweight(kCols), c_y(y), c_dx(dx), c_dweight(dweight);
  isonorm::forward(isonorm::contracts::gemma, kEps,
                   {.x = {x, kRows, kCols}, .weight = weight, .y = {y, {kRows, kCols}}, .rstd = rstd});
  isonorm::backward(isonorm::contracts::gemma, kEps,
                    {.dy = {dy, kRows, kCols},
                     .x = {x.data(), {kRows, kCols}},
                     .weight = weight,
                     .rstd = rstd,
                     .dx = {dx.data(), dtype::f32, {kRows, kCols}, {kCols, 1}},
                     .dweight = dweight});

  std::int64_t shape[] = {kRows, kCols}, cols[] = {kCols};
  const auto tensor = [](Floats& data, std::int32_t ndim, std::int64_t* sizes) {
    return isonorm_tensor{data.data(), {ISONORM_DEVICE_CPU, 0}, ndim, ISONORM_F32, sizes, nullptr, 0};
  };
  const isonorm_tensor of_x = tensor(x, 2, shape), of_dy = tensor(dy, 2, shape), of_weight = tensor(weight, 1, cols);
  const isonorm_tensor of_y = tensor(c_y, 2, shape), of_dx = tensor(c_dx, 2, shape), of_dweight = tensor(c_dweight, 1, cols);
  const isonorm_contract gemma = ISONORM_CONTRACT_GEMMA;
  isonorm_forward_args forward = {};
  forward.struct_size = sizeof(forward);
  forward.x = &of_x;
  forward.weight = &of_weight;
  forward.y = &of_y;
  ASSERT_EQ(isonorm_forward(&gemma, kEps, &forward), ISONORM_OK) << isonorm_last_error();
  isonorm_backward_args backward = {};
  backward.struct_size = sizeof(backward);
  backward.dy = &of_dy;
  backward.x = &of_x;
  backward.weight = &of_weight;
  backward.dx = &of_dx;
  backward.dweight = &of_dweight;
  std::vector<std::byte> workspace(
      isonorm::backward_workspace(isonorm::contracts::gemma, kEps,
                                  {.dy = {dy, kRows, kCols}, .x = {x, kRows, kCols}, .weight = weight, .dweight = dweight}));
  backward.workspace = workspace.data();
  backward.workspace_size = workspace.size();
  ASSERT_EQ(isonorm_backward(&gemma, kEps, &backward), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(y, c_y);
  EXPECT_EQ(dx, c_dx);
  EXPECT_EQ(dweight, c_dweight);
}

// Two tokens of two heads and of one, a quarter and a half turn: cosines 0 and -1, sines 1 and 0.
TEST(Face, RotatedChain) {
  const Floats q = {3, 4, 4, 3, 4, 3, 3, 4}, k = {1, -1, 1, 1}, cos = {0, -1}, sin = {1, 0};
  const std::vector<std::int32_t> positions = {1, 0};
  Floats rotated_q(8), rotated_k(4), plain(8);
  isonorm::forward(isonorm::contracts::torch, 0, {.x = {q, 4, 2}, .y = {plain, 4, 2}});
  isonorm::forward(isonorm::contracts::torch, 0,
                   {{.x = {q, {2, 2, 2}},
                     .rope = {.cos = {cos, 2, 1}, .sin = {sin, 2, 1}, .positions = positions},
                     .y = {rotated_q, {2, 2, 2}}},
                    {.x = {k, {2, 1, 2}}, .rope = {.cos = {cos, 2, 1}, .sin = {sin, 2, 1}}, .y = {rotated_k, {2, 1, 2}}}});
  EXPECT_EQ(rotated_k, (Floats{1, 1, -1, -1}));
  EXPECT_EQ(rotated_q, (Floats{-plain[0], -plain[1], -plain[2], -plain[3], -plain[5], plain[4], -plain[7], plain[6]}));
  EXPECT_EQ(StatusOf([] { isonorm::forward(isonorm::contracts::torch, 0, std::initializer_list<isonorm::forward_args>{}); }),
            ISONORM_ERROR_ARGUMENT);
  // A rotation that is only half there is not none.
  EXPECT_EQ(StatusOf([&] {
              isonorm::forward(isonorm::contracts::torch, 0,
                               {.x = {q, 4, 2}, .rope = {.style = isonorm::rope_style::interleaved}, .y = {plain, 4, 2}});
            }),
            ISONORM_ERROR_NULL);
}

TEST(Face, Quantised) {
  const Floats x = {2, -2, 0.5f, -0.5f, 0, 2, -2, 2}, one = {1.0f / 64};
  std::vector<std::int8_t> y(8);
  Floats scale(2);
  const isonorm::contract torch = isonorm::contracts::torch;
  isonorm::forward(torch, 0,
                   {.x = {x, 2, 4}, .quantization = {.kind = isonorm::scale_kind::fixed}, .static_scale = one, .y = {y, 2, 4}});
  EXPECT_EQ(y[0], 88);  // 64 * 2 / sqrt(2.125)
  isonorm::forward(torch, 0,
                   {.x = {x, 2, 4}, .quantization = {.kind = isonorm::scale_kind::dynamic}, .scale = scale, .y = {y, 2, 4}});
  EXPECT_EQ(y, (std::vector<std::int8_t>{127, -127, 32, -32, 0, 127, -127, 127}));
  EXPECT_GT(scale[1], 0);

  // What the call would write is never a const_tensor, and one that is read has its own field.
  const auto call = [&](const isonorm::quantization& how, const isonorm::const_tensor& in, const isonorm::tensor& out) {
    return StatusOf([&] {
      isonorm::forward(torch, 0, {.x = {x, 2, 4}, .quantization = how, .static_scale = in, .scale = out, .y = {y, 2, 4}});
    });
  };
  const Floats before = scale;
  EXPECT_EQ(call({.kind = isonorm::scale_kind::dynamic}, scale, {}), ISONORM_ERROR_ARGUMENT);
  EXPECT_EQ(call({.kind = isonorm::scale_kind::power_of_two}, scale, scale), ISONORM_ERROR_ARGUMENT);
  EXPECT_EQ(call({.kind = isonorm::scale_kind::fixed}, {}, scale), ISONORM_ERROR_ARGUMENT);
  EXPECT_EQ(call({.group_cols = 32}, {}, scale), ISONORM_ERROR_QUANTIZATION);  // no kind: not none
  EXPECT_EQ(scale, before);
}

TEST(Face, RmsOfVectors) {
  const Floats x = {3, 4, 0, 5}, drms = {2, 1};
  Floats rms(2), dx(4), penalty(2);
  isonorm::rms({.x = {x, 2, 2}, .rms = rms});
  EXPECT_EQ(rms[1], isonorm::rms(Floats{0, 5}));
  EXPECT_EQ(isonorm::rms(std::vector<double>{1, -1, 1}), 1);
  isonorm::rms_backward({.x = {x, 2, 2}, .drms = drms, .dx = {dx, 2, 2}});
  EXPECT_EQ(dx[2], 0);
  EXPECT_GT(dx[3], 0);
  isonorm::rms_penalty({.x = {x, 2, 2}, .penalty = penalty, .lambda = 2});
  EXPECT_EQ(penalty, (Floats{25, 25}));
  dx = {1, 1, 1, 1};
  isonorm::rms_penalty({.x = {x, 2, 2}, .dx = {dx, 2, 2}, .lambda = 0.5, .accumulate = true});
  EXPECT_EQ(dx, (Floats{2.5f, 3, 1, 3.5f}));
}

// ------------------------------------------------------------------------------------------------------ contracts, names

std::string BytesOf(const isonorm_contract& c) {
  static_assert(sizeof(c) == sizeof(std::size_t) + 8 * sizeof(std::int32_t) + sizeof(double), "no padding");
  return {reinterpret_cast<const char*>(&c), sizeof(c)};
}

TEST(Face, ContractsAreThoseOfTheCAbi) {
  const std::map<std::string, std::pair<isonorm::contract, isonorm_contract>> all = {
      {"torch", {isonorm::contracts::torch, ISONORM_CONTRACT_TORCH}},
      {"llama", {isonorm::contracts::llama, ISONORM_CONTRACT_LLAMA}},
      {"onnx", {isonorm::contracts::onnx, ISONORM_CONTRACT_ONNX}},
      {"t5", {isonorm::contracts::t5, ISONORM_CONTRACT_T5}},
      {"gemma", {isonorm::contracts::gemma, ISONORM_CONTRACT_GEMMA}},
      {"paper", {isonorm::contracts::paper, ISONORM_CONTRACT_PAPER}},
      {"mamba2", {isonorm::contracts::mamba2, ISONORM_CONTRACT_MAMBA2}},
      {"qwen3_next_gated", {isonorm::contracts::qwen3_next_gated, ISONORM_CONTRACT_QWEN3_NEXT_GATED}},
      {"microgpt", {isonorm::contracts::microgpt, ISONORM_CONTRACT_MICROGPT}},
      {"layer_norm", {isonorm::contracts::layer_norm, ISONORM_CONTRACT_LAYER_NORM}}};
  EXPECT_EQ(isonorm::list_contracts().size(), all.size());
  for (const std::string& name : isonorm::list_contracts()) {
    const auto& [contract, constant] = all.at(name);
    EXPECT_EQ(BytesOf(to_c(contract)), BytesOf(constant)) << name;
    EXPECT_EQ(isonorm::contracts::by_name(name) == contract, true) << name;
  }
}

TEST(Face, AContractOfOnesOwn) {
  const Floats x = {3, 4}, ones = {1, 1};
  Floats y(2), z(2);
  isonorm::contract mine = isonorm::contracts::torch;
  mine.weight_offset = 1;
  EXPECT_EQ(mine == isonorm::contracts::torch, false);
  isonorm::forward(mine, 0, {.x = x, .y = y});
  isonorm::forward({.statistic = isonorm::statistic::rms,
                    .eps_place = isonorm::eps_place::inside,
                    .scaled_rounding = isonorm::rounding::none,
                    .sum_rounding = isonorm::sum_rounding::stored,
                    .gate_place = isonorm::gate_place::none,
                    .gate_function = isonorm::gate_function::silu,
                    .rotation_rounding = isonorm::rounding::none,
                    .weight_offset = 1},
                   0, {.x = x, .weight = ones, .y = z});
  EXPECT_EQ(z, (Floats{2 * y[0], 2 * y[1]}));
  EXPECT_EQ(StatusOf([&] { isonorm::forward({}, 0, {.x = x, .y = y}); }), ISONORM_ERROR_CONTRACT);
}

// The C ABI would read the name up to the NUL.
TEST(Face, ANameWithANulIsRefused) {
  using std::string_literals::operator""s;
  EXPECT_EQ(StatusOf([] { (void)isonorm::contracts::by_name("torch\0x"s); }), ISONORM_ERROR_CONTRACT);
  EXPECT_EQ(StatusOf([] { (void)isonorm::contracts::by_name("torch\0"s); }), ISONORM_ERROR_CONTRACT);
  const std::string before = isonorm::target();
  EXPECT_EQ(StatusOf([] { isonorm::set_target("reference\0x"s); }), ISONORM_ERROR_TARGET);
  EXPECT_EQ(StatusOf([] { isonorm::set_target("\0reference"s); }), ISONORM_ERROR_TARGET);
  EXPECT_EQ(isonorm::target(), before);
}

// ---------------------------------------------------------------------------------------------------- types and version

template <class Half>
void SixteenBits(dtype type) {
  static_assert(sizeof(Half) == 2);
  std::vector<Half> x, y(4);
  for (const float value : {3.0f, -4.0f, 0.5f, 1.0f}) x.push_back(static_cast<Half>(value));
  isonorm::forward(isonorm::contracts::llama, kEps, {.x = x, .y = y});
  std::vector<std::uint16_t> bits(4);
  isonorm::forward(isonorm::contracts::llama, kEps, {.x = {x.data(), type, {4}}, .y = {bits.data(), type, {4}}});
  EXPECT_EQ(std::memcmp(y.data(), bits.data(), sizeof(Half) * 4), 0);
  EXPECT_NE(bits[0], 0);
}

TEST(Face, TheCompilersSixteenBitTypes) {
#if defined(ISONORM_FLOAT16)
  static_assert(isonorm::dtype_of<_Float16>::value == dtype::f16);
  SixteenBits<_Float16>(dtype::f16);
#elif defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
#error "GCC has _Float16 here"
#endif
#if defined(__STDCPP_BFLOAT16_T__)
  static_assert(isonorm::dtype_of<std::bfloat16_t>::value == dtype::bf16);
  SixteenBits<std::bfloat16_t>(dtype::bf16);
#endif
}

TEST(Face, AShapeThatTheDataDoNotHave) {
  const Floats x(6);
  EXPECT_EQ(StatusOf([&] { isonorm::const_tensor{x, 2, 4}; }), ISONORM_ERROR_SHAPE);
  EXPECT_EQ(StatusOf([&] { isonorm::const_tensor{x, {-2, -3}}; }), ISONORM_ERROR_SHAPE);
  EXPECT_EQ(StatusOf([&] { isonorm::const_tensor{x.data(), {2, 3}, {1}}; }), ISONORM_ERROR_RANK);
  EXPECT_EQ(StatusOf([&] { isonorm::const_tensor{x, {1, 1, 1, 1, 1, 1, 1, 6}}; }), ISONORM_ERROR_RANK);
}

TEST(Face, TheVersionAsNumbers) {
  static_assert(isonorm::version_major * 1000000 + isonorm::version_minor * 1000 + isonorm::version_patch >= 2000);
  EXPECT_EQ(isonorm::version(), std::to_string(isonorm::version_major) + "." + std::to_string(isonorm::version_minor) + "." +
                                    std::to_string(isonorm::version_patch));
}

// ------------------------------------------------------------------------------------------------------------- threads

TEST(Face, AnExecutorIsUsedWhereItIsGivenAndNoneElse) {
  int tasks = 0;
  const isonorm_executor executor = {sizeof(executor), 2, 0, &tasks,
                                     [](void* count, std::int64_t n, void (*task)(void*, std::int64_t), void* context) {
                                       *static_cast<int*>(count) += static_cast<int>(n);
                                       for (std::int64_t i = 0; i < n; ++i) task(context, i);
                                     }};
  const Floats x = Some(1 << 20, 4);
  Floats y(x.size()), z(x.size());
  isonorm::forward(isonorm::contracts::torch, kEps, {.x = {x, 1024, 1024}, .y = {y, 1024, 1024}});
  EXPECT_EQ(tasks, 0);
  isonorm::forward(isonorm::contracts::torch, kEps, {.x = {x, 1024, 1024}, .y = {z, 1024, 1024}, .executor = &executor});
  EXPECT_EQ(tasks, 2);
  EXPECT_EQ(y, z);
}

TEST(Face, CAndCppSayTheSameAboutThreads) {
  for (const char* const header : {"isonorm.h", "isonorm.hpp"}) {
    std::ifstream file(std::string(ISONORM_HEADERS) + "/" + header);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    EXPECT_NE(text.find(" A call computes on the calling thread alone unless it is handed an executor.\n"), std::string::npos)
        << header;
  }
}

}  // namespace
}  // namespace isonorm_test
