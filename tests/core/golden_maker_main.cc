// golden_maker FILE: prints the golden file with its digests made anew.
#include <cstdio>
#include <fstream>
#include <iterator>

#include "golden_maker.h"

int main(int count, char** arguments) {
  if (count != 2) return std::fprintf(stderr, "usage: golden_maker FILE\n"), 2;
  std::ifstream in(arguments[1], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  std::string error = in.is_open() ? "" : "it cannot be read";
  const std::string made = error.empty() ? core_test::MakeGolden(text, &error) : "";
  if (!error.empty()) return std::fprintf(stderr, "%s: %s\n", arguments[1], error.c_str()), 1;
  std::fputs(made.c_str(), stdout);
  return 0;
}
