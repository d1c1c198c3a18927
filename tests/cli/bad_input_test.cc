// Files and command lines that `apply` refuses: exit code 2 or 3, one sentence, and nothing written. The readers' own tests
// go through the defects one by one; here the whole program meets each kind once.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "process.h"

namespace isonorm_test {
namespace {

Outcome Apply(const Folder& folder, const std::string& in, const std::vector<std::string>& more = {}) {
  std::vector<std::string> args = {"apply", in, "-o", folder / "out.safetensors", "--contract", "torch", "--eps", "1e-6"};
  args.insert(args.end(), more.begin(), more.end());
  return RunCli(args);
}

TEST(BadInput, DamagedFiles) {
  const std::string npy = NpyDictionary("<f4", "(2, 4)");
  const std::string data = Bytes(Values(8, 1));
  const struct {
    const char* name;
    std::string bytes;
    const char* words;
  } cases[] = {
      {"empty", "", "it is empty"},
      {"text", "just some words in a file", "neither a .npy file nor a .safetensors file: it is text"},
      {"pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "run `git lfs pull`"},
      {"nul", SafetensorsFile("{" + Entry("t", "F32", "[2,4]", 0, 32) + "}" + std::string("\0anything", 9), data),
       "is not JSON at byte"},
      {"truncated.npy", NpyFile(npy, data.substr(1)), "needs 32 bytes and the file has 31"},
      {"longer.npy", NpyFile(npy, data + "x"), "needs 32 bytes and the file has 33"},
      {"big.npy", NpyFile(NpyDictionary(">f4", "(2, 4)"), data), "big-endian"},
      {"fortran.npy", NpyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 4)}", data), "Fortran"},
      {"integers.npy", NpyFile(NpyDictionary("<i4", "(2, 4)"), data), "no tensor that can be normalised"},
      {"scalar.npy", NpyFile(NpyDictionary("<f4", "()"), data.substr(0, 4)), "no tensor that can be normalised"},
      {"header", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10), "does not fit in 10"},
      {"outside", SafetensorsFile("{" + Entry("t", "F32", "[2,4]", 4, 36) + "}", data), "ends at byte 36"},
      {"overlapping",
       SafetensorsFile("{" + Entry("t", "F32", "[2,2]", 0, 16) + "," + Entry("u", "F32", "[2,3]", 8, 32) + "}", data),
       "starts at byte 8 of the data"},
      {"metadata", SafetensorsFile("{\"__metadata__\":{\"k\":\"\xff\"}," + Entry("t", "F32", "[2,4]", 0, 32) + "}", data),
       "not UTF-8"},
      {"utf8", SafetensorsFile("{" + Entry("\xff\xfe", "F32", "[2,4]", 0, 32) + "}", data), "not UTF-8"},
      {"twice", SafetensorsFile("{" + Entry("t", "F32", "[2,4]", 0, 32) + "," + Entry("t", "F32", "[2,4]", 0, 32) + "}", data),
       "twice"},
      {"overflow", SafetensorsFile("{" + Entry("t", "F32", "[4611686018427387904,4]", 0, 32) + "}", data),
       "does not fit in 64 bits"},
      {"nothing", SafetensorsFile("{}", ""), "no tensor that can be normalised"},
  };
  for (const auto& c : cases) {
    const Folder folder;
    WriteAll(folder / c.name, c.bytes);
    const Outcome run = Apply(folder, folder / c.name);
    EXPECT_EQ(run.exit_code, 3) << c.name << ": " << run.err;
    EXPECT_NE(run.err.find(c.words), std::string::npos) << c.name << ": " << run.err;
    EXPECT_NE(run.err.find(folder / c.name), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(folder.Names(), std::vector<std::string>{c.name});
  }
}

TEST(BadInput, FilesThatCannotBeRead) {
  const Folder folder;
  EXPECT_EQ(Apply(folder, folder / "absent.npy").exit_code, 3);
  EXPECT_EQ(Apply(folder, folder.path()).exit_code, 3);
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);  // must not wait for somebody to write
  EXPECT_EQ(Apply(folder, folder / "pipe").exit_code, 3);
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"pipe"});
}

TEST(BadInput, NamesFromFilesCannotDriveTheTerminal) {
  const Folder folder;
  WriteAll(folder / "in", SafetensorsFile("{" + Entry("\\u001b[31mred", "F32", "[2]", 0, 8) + "}", Bytes(Values(2, 1))));
  const Outcome run = Apply(folder, folder / "in");
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out.find('\x1b'), std::string::npos);
}

TEST(BadInput, RowTooLargeForTheMemoryBound) {
  const Folder folder;
  constexpr std::int64_t kCols = 64 << 20;  // in and out together 512 MB
  const std::string header = SafetensorsFile("{" + Entry("t", "F32", "[1,67108864]", 0, kCols * 4) + "}", "");
  WriteAll(folder / "in", header);
  ASSERT_EQ(truncate((folder / "in").c_str(), static_cast<off_t>(header.size()) + kCols * 4), 0);  // sparse
  const Outcome run = Apply(folder, folder / "in");
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("needs more than the 96 MB"), std::string::npos) << run.err;
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"in"});
}

TEST(BadInput, AnAbsentTargetInTheEnvironment) {
  const Folder folder;
  WriteAll(folder / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  const Outcome run = RunCli({"apply", folder / "in.npy", "-o", folder / "out.npy", "--contract", "torch", "--eps", "1e-6"},
                             {.environment = {"ISONORM_TARGET=NO_SUCH"}});
  EXPECT_EQ(run.exit_code, 5);
  EXPECT_NE(run.err.find("ISONORM_TARGET is \"NO_SUCH\", which is none of"), std::string::npos) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"in.npy"});
}

TEST(BadInput, CommandLines) {
  const Folder folder;
  const std::string in = folder / "in.npy", out = folder / "out.npy";
  WriteAll(in, NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  const std::vector<std::string> cases[] = {
      {},
      {"normalise"},
      {"apply"},
      {"apply", in},
      {"apply", in, "-o", out},
      {"apply", in, "-o", out, "--contract", "torch"},  // eps has no default
      {"apply", in, "-o", out, "--eps", "1e-6"},        // nor has the contract
      {"apply", in, "-o", out, "--contract", "no_such", "--eps", "1e-6"},
      {"apply", in, "-o", out, "--contract", "torch", "--eps", "small"},
      {"apply", in, "-o", out, "--contract", "torch", "--eps", "1e-6", "--threads", "-1"},
      {"apply", in, "-o", out, "--contract", "torch", "--eps", "1e-6", "--out-dtype", "f8"},
      {"apply", in, "-o", out, "--contract", "torch", "--eps", "1e-6", "--no-such-option"},
  };
  for (const auto& args : cases) {
    const Outcome run = RunCli(args);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_NE(run.err, "");
  }
  for (const char* const eps : {"nan", "-1", "inf"}) {
    const Outcome run = RunCli({"apply", in, "-o", out, "--contract", "torch", "--eps", eps});
    EXPECT_EQ(run.exit_code, 2) << eps << run.err;
    EXPECT_NE(run.err.find("--eps: '" + std::string(eps) + "'"), std::string::npos) << run.err;
  }
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"in.npy"});
}

}  // namespace
}  // namespace isonorm_test
