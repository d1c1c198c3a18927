// What `stats` prints and writes: shapes of every kind, several files, names that would break a page, and bad input.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "process.h"

namespace isonorm_test {
namespace {

using Json = nlohmann::json;
using Names = std::vector<std::string>;

std::vector<std::string> NamesOf(const Json& json) {
  Names names;
  for (const auto& t : json["tensors"]) names.push_back(t["name"]);
  return names;
}

TEST(StatsReport, LayersInNaturalOrder) {
  const Folder folder;
  std::string header = "{";
  std::int64_t end = 0;
  for (const char* const name : {"m.10.norm", "m.2.norm", "head", "m.1.norm", "m.02.a", "x2y", "layer7"}) {
    header += Entry(name, "F32", "[4]", end, end + 16) + ",";
    end += 16;
  }
  header.back() = '}';
  WriteAll(folder / "in", SafetensorsFile(header, Bytes(Values(28, 1))));
  const Outcome run = RunCli({"stats", folder / "in", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(NamesOf(json), (Names{"head", "layer7", "m.1.norm", "m.02.a", "m.2.norm", "m.10.norm", "x2y"}));
  EXPECT_EQ(json["tensors"][1]["layer"], 7);
  EXPECT_EQ(json["tensors"][5]["layer"], 10);
  EXPECT_EQ(json["tensors"][5]["series"], "m.*.norm");
  EXPECT_TRUE(json["tensors"][6]["layer"].is_null());
}

TEST(StatsReport, ShapesWithoutMuchInThem) {
  const Folder folder;
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> data = {3, 1, 2, 3, nan, nan, nan, inf, -inf, 0, 0, 0, 7, 7, 7, 5};
  WriteAll(folder / "in",
           SafetensorsFile("{" + Entry("a.no_rows", "F32", "[0,4]", 0, 0) + "," + Entry("b.no_cols", "F32", "[3,0]", 0, 0) +
                               "," + Entry("c.scalar", "F32", "[]", 0, 4) + "," + Entry("d.narrow", "F32", "[3,1]", 4, 16) +
                               "," + Entry("e.nan", "F32", "[1,3]", 16, 28) + "," + Entry("f.inf", "F32", "[2]", 28, 36) + "," +
                               Entry("g.zero", "F32", "[1,3]", 36, 48) + "," + Entry("h.constant", "F32", "[1,3]", 48, 60) +
                               "," + Entry("i.one", "F32", "[1]", 60, 64) + "}",
                           Bytes(data)));
  for (const char* const eps : {"0", "1e-6"}) {
    const Outcome run = RunCli({"stats", folder / "in", "--json", "--eps", eps});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json t = Json::parse(run.out)["tensors"];  // no NaN: it would not parse
    for (const std::size_t empty : {0, 1, 4, 5}) {
      EXPECT_TRUE(t[empty]["rms"].is_null()) << empty;
      EXPECT_TRUE(t[empty]["max_abs"]["row"].is_null()) << empty;
      EXPECT_TRUE(t[empty]["norms"]["cosine_min"]["value"].is_null()) << empty;
    }
    EXPECT_EQ(t[0]["remarks"], "empty");
    EXPECT_EQ(t[1]["rows"], 3);
    EXPECT_EQ(t[2]["rms"], 3.0);
    EXPECT_EQ(t[3]["channels"]["worst"][0]["factor"], 1.0);
    EXPECT_EQ(t[3]["drift"], 1.0);
    EXPECT_EQ(t[4]["nan"], 3);
    EXPECT_EQ(t[5]["infinite"], 2);
    EXPECT_EQ(t[6]["rms"], 0.0);
    EXPECT_TRUE(t[6]["drift"].is_null());
    EXPECT_EQ(t[7]["rms"], 7.0);
    EXPECT_EQ(t[8]["rms"], 5.0);
  }
  const Outcome table = RunCli({"stats", folder / "in"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const char* const words : {"! empty", "! 3 NaN", "! 2 infinities", "! all zero", "! 1 constant row"}) {
    EXPECT_NE(table.out.find(words), std::string::npos) << words << "\n" << table.out;
  }
  EXPECT_EQ(table.out.find("nan"), table.out.rfind("nan")) << table.out;  // but for the name
}

TEST(StatsReport, FilesOfOtherWidthsByRms) {
  const Folder folder;
  // The same values 64 and 4096 wide: the L2 norm of a row is 8 times as large, the RMS is the same; then twice as large.
  for (const auto& [name, cols, value] : {std::tuple{"a", 64, 1.0f}, std::tuple{"b", 4096, 1.0f}, std::tuple{"c", 8, 2.0f}}) {
    const std::vector<float> x(static_cast<std::size_t>(2 * cols), value);
    const auto bytes = static_cast<std::int64_t>(4 * x.size());
    WriteAll(folder / name,
             SafetensorsFile("{" + Entry("h.0.x", "F32", "[2," + std::to_string(cols) + "]", 0, bytes) + "}", Bytes(x)));
  }
  const Outcome run = RunCli({"stats", folder / "a", folder / "b", folder / "c", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["files"][1]["rms_over_first"], 1.0);
  EXPECT_EQ(json["files"][2]["rms_over_first"], 2.0);
  ASSERT_EQ(json["same_names"].size(), 1u);
  EXPECT_EQ(json["same_names"][0]["entries"][2], (Json{{"file", 2}, {"cols", 8}, {"rms", 2.0}, {"rms_over_first", 2.0}}));
  const Outcome table = RunCli({"stats", folder / "a", folder / "b"});
  EXPECT_NE(table.out.find("Files by RMS"), std::string::npos) << table.out;
}

// Names come from files, and a file may come from anybody.
TEST(StatsReport, HostileNamesAreText) {
  const Folder folder;
  const std::string path = folder / "<b>'\"&.safetensors";
  const Names names = {"<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "a\"b'c&amp;", "<!--",
                       "@DATA@@CSS@"};
  std::string header = "{";
  std::int64_t end = 0;
  for (const std::string& name : names) {
    std::string entry = Json(name).dump();
    header += entry + R"(:{"dtype":"F32","shape":[4],"data_offsets":[)" + std::to_string(end) + "," + std::to_string(end + 16) +
              "]},";
    end += 16;
  }
  header.back() = '}';
  WriteAll(path, SafetensorsFile(header, Bytes(Values(20, 1))));
  const Outcome run = RunCli({"stats", path, "--html", folder / "r.html", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const std::string page = ReadAll(folder / "r.html");
  for (const char* const raw : {"<img", "<b>'", "alert(2)</script>", "<!--", "a\"b'c", "onerror=alert(1)>"}) {
    EXPECT_EQ(page.find(raw), std::string::npos) << raw;
  }
  EXPECT_NE(page.find("&lt;img src=x onerror=alert(1)&gt;"), std::string::npos);
  EXPECT_NE(page.find("a&quot;b&#39;c&amp;amp;"), std::string::npos);
  EXPECT_NE(page.find("@DATA@@CSS@"), std::string::npos);  // not taken for a place of the template

  // What the script element holds is the JSON that is printed, names and all.
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t at = page.find(begin) + begin.size();
  const Json inside = Json::parse(page.substr(at, page.find("</script>", at) - at));
  EXPECT_EQ(inside, Json::parse(run.out));
  Names found = NamesOf(inside);
  for (const std::string& name : names) EXPECT_NE(std::find(found.begin(), found.end(), name), found.end()) << name;
}

TEST(StatsReport, APathThatIsNotUtf8) {
  const Folder folder;
  const std::string path = folder / "\xff\xfe.npy";
  WriteAll(path, NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  const Outcome run = RunCli({"stats", path, "--html", folder / "r.html", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NO_THROW(Json::parse(run.out));
  EXPECT_EQ(ReadAll(folder / "r.html").find('\xff'), std::string::npos);
}

TEST(StatsReport, ThePageNeedsNothingElse) {
  const Folder folder;
  WriteAll(folder / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  ASSERT_EQ(RunCli({"stats", folder / "in.npy", "--html", folder / "r.html"}).exit_code, 0);
  std::string page = ReadAll(folder / "r.html");
  const std::string name_space = "http://www.w3.org/2000/svg";  // a name, which nobody fetches
  for (std::size_t at; (at = page.find(name_space)) != std::string::npos;) page.erase(at, name_space.size());
  for (const char* const word : {"http:", "https:", "src=\"", "@import", "url("})
    EXPECT_EQ(page.find(word), std::string::npos) << word;
}

TEST(StatsReport, ExistingReportsAreKept) {
  const Folder folder;
  WriteAll(folder / "in.npy", NpyFile(NpyDictionary("<f4", "(2, 4)"), Bytes(Values(8, 1))));
  WriteAll(folder / "r.html", "mine");
  const Outcome refused = RunCli({"stats", folder / "in.npy", "--html", folder / "r.html"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE(refused.err.find("exists already"), std::string::npos) << refused.err;
  EXPECT_EQ(ReadAll(folder / "r.html"), "mine");
  EXPECT_EQ(RunCli({"stats", folder / "in.npy", "--html", folder / "r.html", "--force"}).exit_code, 0);
  EXPECT_NE(ReadAll(folder / "r.html").find("<!doctype html>"), std::string::npos);
  EXPECT_EQ(RunCli({"stats", folder / "in.npy", "--html", folder / "s.html"}, {.file_size_limit = 1000}).exit_code, 4);
  EXPECT_EQ(RunCli({"stats", folder / "in.npy", "--html", folder / "absent/r.html"}).exit_code, 4);
  EXPECT_EQ(folder.Names(), (Names{"in.npy", "r.html"}));
  const std::string input = ReadAll(folder / "in.npy");
  for (const std::string& path : {folder / "in.npy", folder / "./in.npy"}) {
    const Outcome itself = RunCli({"stats", folder / "in.npy", "--html", path, "--force"});
    EXPECT_EQ(itself.exit_code, 4);
    EXPECT_NE(itself.err.find("is an input"), std::string::npos) << itself.err;
  }
  EXPECT_EQ(ReadAll(folder / "in.npy"), input);
}

TEST(StatsReport, BadInput) {
  const Folder folder;
  const std::string in = folder / "in";
  WriteAll(in, SafetensorsFile("{" + Entry("x", "F32", "[2,2]", 0, 16) + "," + Entry("steps", "I64", "[1]", 16, 24) + "," +
                                   Entry("wide", "F32", "[0,1]", 24, 24) + "}",
                               std::string(24, '\0')));
  WriteAll(folder / "ints.npy", NpyFile(NpyDictionary("<i4", "(1,)"), std::string(4, '\0')));
  const std::string out = folder / "r.html";
  const struct {
    std::vector<std::string> args;
    int code;
    const char* words;
  } cases[] = {
      {{}, 2, "FILE"},
      {{folder / "absent"}, 3, "cannot be read"},
      {{folder.path()}, 3, "is not a regular file"},
      {{in, folder / "absent"}, 3, "cannot be read"},
      {{folder / "ints.npy"}, 3, "holds no floating-point tensor"},
      {{in, "--tensor", "y*"}, 3, "no tensor matches --tensor 'y*'"},
      {{in, "--tensor", "x", "--tensor", "y*"}, 3, "no tensor matches --tensor 'y*'"},
      {{in, "--tensor", "steps"}, 3, "of type I64"},
      {{in, "--eps", "-1"}, 2, "--eps: '-1'"},
      {{in, "--outlier", "0.5"}, 2, "0.5"},
      {{in, "--threads", "-1"}, 2, "-1"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> args = {"stats"};
    args.insert(args.end(), c.args.begin(), c.args.end());
    args.insert(args.end(), {"--html", out});
    const Outcome run = RunCli(args);
    EXPECT_EQ(run.exit_code, c.code) << run.err;
    EXPECT_NE(run.err.find(c.words), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
  }
  EXPECT_EQ(folder.Names(), (Names{"in", "ints.npy"}));
}

TEST(StatsReport, RowTooLargeForTheMemoryBound) {
  const Folder folder;
  constexpr std::int64_t kCols = 8 << 20;
  const std::string header = SafetensorsFile("{" + Entry("t", "F32", "[1,8388608]", 0, kCols * 4) + "}", "");
  WriteAll(folder / "in", header);
  ASSERT_EQ(truncate((folder / "in").c_str(), static_cast<off_t>(header.size()) + kCols * 4), 0);  // sparse
  const Outcome run = RunCli({"stats", folder / "in", "--html", folder / "r.html"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("needs more than the 128 MB"), std::string::npos) << run.err;
  EXPECT_EQ(folder.Names(), Names{"in"});
}

}  // namespace
}  // namespace isonorm_test
