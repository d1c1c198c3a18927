// CORPUS COUNT [LENGTH [SEED]]: a file, or the files of a folder, then COUNT mutations of them, or with LENGTH every other time
// as many random bytes. It needs no libFuzzer, and does the same in every run.
#include <algorithm>
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

std::string RandomBytes(Random& random, std::size_t length) {
  std::string text(length, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  return text;
}

// The input under way goes to a file if it is the last one.
const std::string* under_way = nullptr;

void WriteInput() {
  if (under_way == nullptr) return;
  std::ofstream("fuzz-failed-input", std::ios::binary) << *under_way;
  std::fprintf(stderr, "The input is in ./fuzz-failed-input: give it as CORPUS, with a COUNT of 0.\n");
}

std::vector<std::string> Read(const std::filesystem::path& corpus) {
  std::vector<std::string> seeds;
  const auto read = [&](const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  };
  if (!std::filesystem::is_directory(corpus)) {
    read(corpus);
    return seeds;
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());  // the same in every run
  for (const auto& path : paths) read(path);
  return seeds;
}

}  // namespace

extern "C" [[gnu::weak]] int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" void __sanitizer_set_death_callback(void (*callback)());
extern "C" const char* __asan_default_options() { return "handle_abort=1"; }

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    std::fprintf(stderr, "usage: %s CORPUS COUNT [LENGTH [SEED]]\n", argv[0]);
    return 2;
  }
  __sanitizer_set_death_callback(WriteInput);
  if (LLVMFuzzerInitialize != nullptr) LLVMFuzzerInitialize(&argc, &argv);
  const std::vector<std::string> seeds = Read(argv[1]);
  if (seeds.empty()) {
    std::fprintf(stderr, "%s holds no files\n", argv[1]);
    return 2;
  }
  const auto run = [&](const std::string& text) {
    under_way = &text;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    under_way = nullptr;
  };
  for (const std::string& seed : seeds) run(seed);
  const long count = std::atol(argv[2]);
  const std::size_t length = argc > 3 ? static_cast<std::size_t>(std::atol(argv[3])) : 0;
  Random random(argc > 4 ? static_cast<Random::result_type>(std::atol(argv[4])) : 1);
  for (long i = 0; i < count; ++i) run(length > 0 && i % 2 == 0 ? RandomBytes(random, length) : Mutate(random, seeds));
  std::printf("%zu files and %ld inputs made of them or at random\n", seeds.size(), count);
  return 0;
}
