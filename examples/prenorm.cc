// The step between two layers of a transformer: add the residual and normalise, forward and backward, in two calls.
//
//   residual_out = x + residual,  y = norm(residual_out) * weight
//
// x and the weight are bf16, the residual stream is f32: types need not agree.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <isonorm/isonorm.hpp>
#include <vector>

struct Bf16 {
  std::uint16_t bits;
};

// Makes vectors of your own 16-bit type usable as tensors.
template <>
struct isonorm::dtype_of<Bf16> {
  static constexpr isonorm::dtype value = isonorm::dtype::bf16;
};

// Exact for the small whole numbers used here.
static Bf16 FromFloat(float v) { return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16)}; }
static float ToFloat(Bf16 v) { return std::bit_cast<float>(std::uint32_t{v.bits} << 16); }

int main() {
  const std::int64_t rows = 2, cols = 8, size = rows * cols;
  std::vector<Bf16> x(size), y(size), dy(size), dx(size), weight(cols), dweight(cols);
  std::vector<float> residual(size), rstd(rows), dresidual(size, 0.5f);
  for (std::int64_t i = 0; i < size; ++i) {
    x[i] = FromFloat(static_cast<float>(i % 5));
    residual[i] = static_cast<float>(i % 3) - 1.0f;
    dy[i] = FromFloat(static_cast<float>(i % 4) - 1.0f);
  }
  for (std::int64_t j = 0; j < cols; ++j) weight[j] = FromFloat(j % 2 == 0 ? 1.0f : 2.0f);

  // residual_out lies over residual: the residual stream is updated where it is.
  isonorm::forward(isonorm::contracts::llama, 1e-6,
                   {.x = {x, rows, cols},
                    .weight = weight,
                    .residual = {residual, rows, cols},
                    .y = {y, rows, cols},
                    .residual_out = {residual, rows, cols},
                    .rstd = rstd});

  // What comes back through the residual stream is added to dx, which is the gradient of both x and the residual.
  isonorm::backward(isonorm::contracts::llama, 1e-6,
                    {.dy = {dy, rows, cols},
                     .weight = weight,
                     .residual_out = {residual, rows, cols},
                     .rstd = rstd,
                     .dresidual = {dresidual, rows, cols},
                     .dx = {dx, rows, cols},
                     .dweight = dweight});

  const auto print = [](const char* name, const std::vector<Bf16>& values) {
    std::printf("%-8s", name);
    for (int j = 0; j < 8; ++j) std::printf(" %9.6f", static_cast<double>(ToFloat(values[static_cast<std::size_t>(j)])));
    std::printf("\n");
  };
  print("y", y);
  print("dx", dx);
  print("dweight", dweight);
}
