// What a C++ program gets: rows --contract NAME --eps E --type f32|bf16|f16|f64 --rows R --cols C reads x and then weight from
// standard input and writes y to standard output, as they lie in memory. test_every_way.py compares.
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
  std::vector<std::byte> x(bytes(rows * cols)), weight(bytes(cols)), y(x.size());
  if (std::fread(x.data(), 1, x.size(), stdin) != x.size()) return EXIT_FAILURE;
  if (std::fread(weight.data(), 1, weight.size(), stdin) != weight.size()) return EXIT_FAILURE;
  isonorm::forward(isonorm::contracts::by_name(options.at("--contract")), std::stod(options.at("--eps")),
                   {.x = {static_cast<const void*>(x.data()), type, {rows, cols}},
                    .weight = {static_cast<const void*>(weight.data()), type, {cols}},
                    .y = {static_cast<void*>(y.data()), type, {rows, cols}},
                    .executor = isonorm::shared_executor()});
  return std::fwrite(y.data(), 1, y.size(), stdout) == y.size() ? EXIT_SUCCESS : EXIT_FAILURE;
}
