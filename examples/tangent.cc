// The derivative of a norm's gradients along a direction, as second-order optimisers and physics models need it:
//
//   d/ds  sum(ddx * dx(x + s * v)),  which is  sum(v * gradient by x)
//
// once from double backward and once as a difference quotient of two backward calls.
#include <cstddef>
#include <cstdio>
#include <isonorm/isonorm.hpp>
#include <vector>

using Vector = std::vector<double>;

constexpr double kEps = 1e-6;
constexpr std::size_t kCols = 6;
const Vector kWeight = {1, -2, 0.5, 3, 1, 1}, kDy = {1, 0, -1, 2, 0.5, 1}, kDdx = {0, 1, 1, -1, 2, 0.25};

static double LossAt(const Vector& x) {
  Vector dx(kCols);
  isonorm::backward(isonorm::contracts::gemma, kEps, {.dy = kDy, .x = x, .weight = kWeight, .dx = dx});
  double loss = 0;
  for (std::size_t i = 0; i < kCols; ++i) loss += kDdx[i] * dx[i];
  return loss;
}

int main() {
  const Vector x = {1, 2, -3, 4, 0, 1}, direction = {1, -1, 2, 0, 0.5, 1};

  // Workspace is needed for dweight alone. A training loop keeps it; without one the call allocates.
  Vector dx(kCols), dweight(kCols);
  isonorm::double_backward_args args = {.dy = kDy, .x = x, .weight = kWeight, .ddx = kDdx, .dx = dx, .dweight = dweight};
  std::vector<std::byte> workspace(isonorm::double_backward_workspace(isonorm::contracts::gemma, kEps, args));
  args.workspace = workspace;
  isonorm::double_backward(isonorm::contracts::gemma, kEps, args);

  double slope = 0;
  Vector ahead = x, behind = x;
  for (std::size_t i = 0; i < kCols; ++i) {
    slope += direction[i] * dx[i];
    ahead[i] += 1e-5 * direction[i];
    behind[i] -= 1e-5 * direction[i];
  }
  std::printf("double backward     %.6f\n", slope);
  std::printf("difference quotient %.6f\n", (LossAt(ahead) - LossAt(behind)) / 2e-5);

  args.accumulate = true;  // as a second batch would
  const Vector once = dweight;
  isonorm::double_backward(isonorm::contracts::gemma, kEps, args);
  std::printf("accumulated         %s\n", dweight[3] == 2 * once[3] ? "twice" : "something else");

  try {
    isonorm::double_backward(isonorm::contracts::layer_norm, kEps, args);
  } catch (const isonorm::error& error) {
    std::printf("%s\n", error.what());
  }
}
