// `apply` and `stats` stay within 256 MB whatever the size of the file, or within what their headers ask for.
#include <gtest/gtest.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "process.h"

namespace isonorm_test {
namespace {

constexpr std::int64_t kMemoryBound = 256'000'000;
constexpr std::int64_t kMemoryPerHeaderByte = 32;

std::int64_t FreeBytes(const std::string& path) {
  struct statvfs info = {};
  return statvfs(path.c_str(), &info) == 0 ? static_cast<std::int64_t>(info.f_bavail) * static_cast<std::int64_t>(info.f_frsize)
                                           : 0;
}

// A sparse file of 4 GiB, which holds no blocks; the output of half its size does. On a disk with less room a file of
// 2 GiB says the same: it is eight times the bound.
TEST(Large, MemoryIsBounded) {
  const Folder folder;
  constexpr std::int64_t kCols = 8192;
  std::int64_t rows = 131072;
  if (FreeBytes(folder.path()) < rows * kCols * 2 + (1 << 28)) rows /= 2;
  ASSERT_GT(FreeBytes(folder.path()), rows * kCols * 2) << "the disk has no room for this test";
  const std::string header =
      SafetensorsFile("{" + Entry("t", "F32", "[" + std::to_string(rows) + ",8192]", 0, rows * kCols * 4) + "}", "");
  WriteAll(folder / "in.safetensors", header);
  ASSERT_EQ(truncate((folder / "in.safetensors").c_str(), static_cast<off_t>(header.size()) + rows * kCols * 4), 0);
  const Outcome run = RunCli({"apply", folder / "in.safetensors", "-o", folder / "out.safetensors", "--contract", "llama",
                              "--eps", "1e-6", "--out-dtype", "bf16"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LE(run.max_resident, kMemoryBound);
  std::printf("resident at most %.0f MB for a file of %.1f GB\n%s", static_cast<double>(run.max_resident) * 1e-6,
              static_cast<double>(rows * kCols * 4) * 1e-9, run.out.c_str());
}

// A sparse file of 1 GiB, four times the bound, and a row that fills the buffers as far as they may grow.
TEST(Large, MemoryOfStatsIsBounded) {
  const Folder folder;
  constexpr std::int64_t kRows = 32768, kCols = 8192, kWide = 3'700'000;
  const std::string header =
      SafetensorsFile("{" + Entry("t", "F32", "[32768,8192]", 0, kRows * kCols * 4) + "," +
                          Entry("wide", "F32", "[2,3700000]", kRows * kCols * 4, (kRows * kCols + 2 * kWide) * 4) + "}",
                      "");
  WriteAll(folder / "in.safetensors", header);
  ASSERT_EQ(truncate((folder / "in.safetensors").c_str(), static_cast<off_t>(header.size()) + (kRows * kCols + 2 * kWide) * 4),
            0);
  const Outcome run = RunCli({"stats", folder / "in.safetensors", "--html", folder / "report.html"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LE(run.max_resident, kMemoryBound);
  std::printf("resident at most %.0f MB\n%s", static_cast<double>(run.max_resident) * 1e-6, run.out.c_str());
}

// One row that fills the buffers as far as they may grow.
TEST(Large, MemoryIsBoundedForOneRow) {
  const Folder folder;
  constexpr std::int64_t kCols = 12'500'000;  // 100 MB, in and out together
  WriteAll(folder / "in.npy", NpyFile(NpyDictionary("<f4", "(3, 12500000)"), ""));
  const auto header = static_cast<std::int64_t>(ReadAll(folder / "in.npy").size());
  ASSERT_EQ(truncate((folder / "in.npy").c_str(), header + 3 * kCols * 4), 0);
  const Outcome run = RunCli({"apply", folder / "in.npy", "-o", folder / "out.npy", "--contract", "torch", "--eps", "1e-6"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LE(run.max_resident, kMemoryBound);
}

// A file of so many tensors of so many zeros, whose names have so many characters more than they need. Gives its header's size.
std::int64_t WriteMany(const std::string& path, std::int64_t tensors, std::int64_t values, std::size_t more) {
  std::string header = "{";
  std::int64_t end = 0;
  for (std::int64_t i = 0; i < tensors; ++i) {
    header += Entry("tensor." + std::string(more, '.') + std::to_string(i), "F32", "[" + std::to_string(values) + "]", end,
                    end + 4 * values) +
              ",";
    end += 4 * values;
  }
  header.back() = '}';
  WriteAll(path, SafetensorsFile(header, ""));
  EXPECT_EQ(truncate(path.c_str(), static_cast<off_t>(8 + header.size()) + end), 0);
  return std::ssize(header);
}

// The header of a checkpoint of many experts, as large as real ones, in every form that `stats` prints.
TEST(Large, MemoryOfStatsIsBoundedForManyTensors) {
  const Folder folder;
  EXPECT_GT(WriteMany(folder / "in.safetensors", 60'000, 16, 160), 14'000'000);
  for (const std::vector<std::string>& form :
       {std::vector<std::string>{"--json"}, {"--html", folder / "r.html"}, {"--html", folder / "s.html", "--json"}}) {
    std::vector<std::string> args = {"stats", folder / "in.safetensors"};
    args.insert(args.end(), form.begin(), form.end());
    const Outcome run = RunCli(args, {.stdout_path = "/dev/null"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_LE(run.max_resident, kMemoryBound) << form.front();
    std::printf("resident at most %.0f MB\n", static_cast<double>(run.max_resident) * 1e-6);
  }
}

// Beyond that it is the header that counts: docs/cli.md promises so many bytes for each of its. `apply` keeps most where each
// tensor gets two more beside it: 23 were measured with names of four characters.
TEST(Large, MemoryIsBoundedByTheHeader) {
  const Folder folder;
  const std::int64_t header = WriteMany(folder / "in.safetensors", 250'000, 1, 0);
  EXPECT_GT(header, 15'000'000);
  const Outcome stats = RunCli({"stats", folder / "in.safetensors", "--json"}, {.stdout_path = "/dev/null"});
  ASSERT_EQ(stats.exit_code, 0) << stats.err;
  const Outcome apply =
      RunCli({"apply", folder / "in.safetensors", "-o", folder / "out.safetensors", "--contract", "torch", "--eps", "1e-6",
              "--residual", "tensor.1", "--residual-out", "{name}.h", "--out-dtype", "i8", "--scale-kind", "dynamic", "--json"},
             {.stdout_path = "/dev/null"});
  ASSERT_EQ(apply.exit_code, 0) << apply.err;
  for (const Outcome& run : {stats, apply}) {
    EXPECT_LE(run.max_resident, kMemoryPerHeaderByte * header);
    std::printf("resident at most %.0f MB, %.1f bytes for each of the header\n", static_cast<double>(run.max_resident) * 1e-6,
                static_cast<double>(run.max_resident) / static_cast<double>(header));
  }
}

// Small tensors alone.
TEST(Large, MemoryIsBoundedForLargeHeaders) {
  const Folder folder;
  WriteMany(folder / "in.safetensors", 126'000, 1, 0);
  const Outcome run = RunCli({"apply", folder / "in.safetensors", "-o", folder / "out.safetensors", "--contract", "torch",
                              "--eps", "1e-6", "--tensor", "tensor.1", "--keep-others"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_LE(run.max_resident, kMemoryBound);
  // All of them, each with two tensors beside it, and a report of each.
  const Outcome all = RunCli({"apply", folder / "in.safetensors", "-o", folder / "all.safetensors", "--contract", "torch",
                              "--eps", "1e-6", "--residual", "tensor.1", "--residual-out", "{name}.h", "--out-dtype", "i8",
                              "--scale-kind", "dynamic", "--json"});
  ASSERT_EQ(all.exit_code, 0) << all.err;
  EXPECT_LE(all.max_resident, kMemoryBound);
  std::printf("resident at most %.0f and %.0f MB\n", static_cast<double>(run.max_resident) * 1e-6,
              static_cast<double>(all.max_resident) * 1e-6);
}

}  // namespace
}  // namespace isonorm_test
