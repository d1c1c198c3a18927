#include <cstdio>
#include <isonorm/isonorm.hpp>
#include <vector>

int main() {
  const std::vector<float> x = {3, 4};
  std::vector<float> y(2);
  isonorm::forward(isonorm::contracts::torch, 0.0, {.x = x, .y = y});
  std::printf("isonorm %s: %.9g %.9g\n", isonorm::version().c_str(), static_cast<double>(y[0]), static_cast<double>(y[1]));
}
