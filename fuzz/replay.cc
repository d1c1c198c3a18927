// fuzz_replay CORPUS COUNT: the files of a corpus, then COUNT mutations of them. It needs no libFuzzer, and does the
// same in every run.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Random = std::mt19937;

const char* const kWords[] = {"{",
                              "}",
                              "[",
                              "]",
                              ",",
                              ":",
                              "(",
                              ")",
                              "'",
                              "\"",
                              "0",
                              "1",
                              "-1",
                              "18446744073709551615",
                              "9223372036854775807",
                              "4611686018427387904",
                              "1e9",
                              "true",
                              "null",
                              "'descr'",
                              "'shape'",
                              "<f4",
                              ">f4",
                              "\"dtype\"",
                              "\"shape\"",
                              "\"data_offsets\"",
                              "__metadata__",
                              "\\u0000",
                              "\xff",
                              "\\ud800"};

std::size_t Below(Random& random, std::size_t n) { return n == 0 ? 0 : random() % n; }

std::string Mutate(Random& random, const std::vector<std::string>& seeds) {
  std::string text = seeds[Below(random, seeds.size())];
  for (std::size_t changes = 1 + Below(random, 4); changes > 0; --changes) {
    const std::size_t at = Below(random, text.size() + 1);
    switch (random() % 6) {
      case 0: text.insert(at, kWords[Below(random, std::size(kWords))]); break;
      case 1: text.erase(at, Below(random, 8)); break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 3:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
        break;
      case 4: text.insert(at, text.substr(Below(random, text.size() + 1), Below(random, 40))); break;
      default: {
        const std::string& other = seeds[Below(random, seeds.size())];
        text.replace(at, std::string::npos, other.substr(Below(random, other.size() + 1)));
      }
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: fuzz_replay CORPUS COUNT\n");
    return 2;
  }
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (seeds.empty()) {
    std::fprintf(stderr, "fuzz_replay: %s holds no files\n", argv[1]);
    return 2;
  }
  const auto run = [&](const std::string& text) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  for (const std::string& seed : seeds) run(seed);
  Random random(1);
  const long count = std::atol(argv[2]);
  for (long i = 0; i < count; ++i) run(Mutate(random, seeds));
  std::printf("%zu files and %ld mutations\n", seeds.size(), count);
  return 0;
}
