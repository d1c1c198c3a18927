// The heads of q and k in a packed projection [tokens, (q + 2 k) heads, head_dim]: normalised and rotated where they lie, forward
// and backward, each in one call. v stays as it is.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <isonorm/isonorm.hpp>
#include <vector>

int main() {
  constexpr std::int64_t tokens = 3, q = 2, k = 1, heads = q + 2 * k, dim = 4, half = dim / 2, past = 5;
  std::vector<float> packed(tokens * heads * dim), gradient(packed.size());
  for (std::size_t i = 0; i < packed.size(); ++i) packed[i] = static_cast<float>(i % 5) - 1.5f;
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = static_cast<float>(i % 3) - 1.0f;
  const std::vector<float> before = packed, q_weight = {1, 2, 1, 2}, k_weight = {0.5f, 1, 0.5f, 1};
  std::vector<float> q_dweight(dim), k_dweight(dim);

  // A table for 16 positions. A real one has angles of position * 10000^(-2 i / dim); these are quarter turns, so that the
  // cosines and sines below are exact on every machine.
  std::vector<float> cos, sin;
  for (int position = 0; position < 16; ++position) {
    for (int i = 0; i < half; ++i) {
      const int quarter = position * (i + 1) % 4;
      cos.push_back(quarter == 0 ? 1.0f : quarter == 2 ? -1.0f : 0.0f);
      sin.push_back(quarter == 1 ? 1.0f : quarter == 3 ? -1.0f : 0.0f);
    }
  }
  // Past tokens lie in a cache, so the first of these three is at position 5.
  const isonorm::rope turn = {.cos = {cos, 16, half}, .sin = {sin, 16, half}, .position_offset = past};

  // [tokens, count, dim] from head `first` on, by strides.
  const auto view = [](std::vector<float>& of, std::int64_t first, std::int64_t count) {
    return isonorm::tensor(of.data() + first * dim, {tokens, count, dim}, {heads * dim, dim, 1});
  };
  std::vector<float> x = before;  // what backward needs is kept
  isonorm::forward(isonorm::contracts::llama, 1e-6,
                   {{.x = view(packed, 0, q), .weight = q_weight, .rope = turn, .y = view(packed, 0, q)},
                    {.x = view(packed, q, k), .weight = k_weight, .rope = turn, .y = view(packed, q, k)}});
  isonorm::backward(isonorm::contracts::llama, 1e-6,
                    {{.dy = view(gradient, 0, q),
                      .x = view(x, 0, q),
                      .weight = q_weight,
                      .rope = turn,
                      .dx = view(gradient, 0, q),
                      .dweight = q_dweight},
                     {.dy = view(gradient, q, k),
                      .x = view(x, q, k),
                      .weight = k_weight,
                      .rope = turn,
                      .dx = view(gradient, q, k),
                      .dweight = k_dweight}});

  const auto print = [](const char* name, const float* v) {
    std::printf("%-22s %9.6f %9.6f %9.6f %9.6f\n", name, static_cast<double>(v[0]), static_cast<double>(v[1]),
                static_cast<double>(v[2]), static_cast<double>(v[3]));
  };
  print("token 1, q of head 0", &packed[heads * dim]);
  print("token 1, k", &packed[heads * dim + q * dim]);
  print("token 1, v, untouched", &packed[heads * dim + (q + k) * dim]);
  print("gradient of k", &gradient[heads * dim + q * dim]);
  print("gradient of q's weight", q_dweight.data());
  print("gradient of k's weight", k_dweight.data());
  return 0;
}
