// What a C++ program gets: rows --contract NAME --eps E --type f32|bf16|f16|f64 --rows R --cols C reads x, weight and dy from
// standard input and writes y, dx and dweight to standard output, as they lie in memory. test_every_way.py compares.
#include <cstdio>
#include <cstdlib>
#include <isonorm/isonorm.hpp>
#include <map>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  const std::map<std::string, isonorm::dtype> types = {
      {"f32", isonorm::dtype::f32}, {"bf16", isonorm::dtype::bf16}, {"f16", isonorm::dtype::f16}, {"f64", isonorm::dtype::f64}};
  const isonorm::dtype type = types.at(options.at("--type"));
  const std::int64_t rows = std::stoll(options.at("--rows")), cols = std::stoll(options.at("--cols"));
  const auto bytes = [&](std::int64_t count) { return static_cast<std::size_t>(count * isonorm::size_of(type)); };
  std::vector<std::byte> x(bytes(rows * cols)), weight(bytes(cols)), dy(x.size()), y(x.size()), dx(x.size()),
      dweight(weight.size());
  for (std::vector<std::byte>* input : {&x, &weight, &dy}) {
    if (std::fread(input->data(), 1, input->size(), stdin) != input->size()) return EXIT_FAILURE;
  }
  const isonorm::contract contract = isonorm::contracts::by_name(options.at("--contract"));
  const double eps = std::stod(options.at("--eps"));
  const auto in = [&](const std::vector<std::byte>& data, isonorm::dims shape) {
    return isonorm::const_tensor{static_cast<const void*>(data.data()), type, shape};
  };
  const auto out = [&](std::vector<std::byte>& data, isonorm::dims shape) {
    return isonorm::tensor{static_cast<void*>(data.data()), type, shape};
  };
  isonorm::forward(contract, eps,
                   {.x = in(x, {rows, cols}),
                    .weight = in(weight, {cols}),
                    .y = out(y, {rows, cols}),
                    .executor = isonorm::shared_executor()});
  isonorm::backward(contract, eps,
                    {.dy = in(dy, {rows, cols}),
                     .x = in(x, {rows, cols}),
                     .weight = in(weight, {cols}),
                     .dx = out(dx, {rows, cols}),
                     .dweight = out(dweight, {cols}),
                     .executor = isonorm::shared_executor()});
  for (const std::vector<std::byte>* output : {&y, &dx, &dweight}) {
    if (std::fwrite(output->data(), 1, output->size(), stdout) != output->size()) return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
