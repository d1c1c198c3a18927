// The reader of .safetensors: what the format's own library accepts is read, everything else is refused for its own reason.
#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <span>

#include "files.h"

namespace isonorm_test {
namespace {

using isonorm_cli::Defect;
using isonorm_cli::ElementType;

isonorm_cli::TensorFile Read(const std::string& file) {
  return isonorm_cli::ReadHeader(isonorm_cli::MemorySource(std::as_bytes(std::span(file))));
}

std::optional<Defect> DefectOf(const std::string& file) {
  try {
    Read(file);
  } catch (const isonorm_cli::FormatError& e) {
    EXPECT_STRNE(e.what(), "");
    return e.defect();
  }
  return std::nullopt;
}

// The defect of a file with this header and so many bytes of data.
std::optional<Defect> DefectOf(const std::string& header, std::size_t bytes) {
  return DefectOf(SafetensorsFile(header, std::string(bytes, '\0')));
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const std::string header = "{" + Entry("b", "BF16", "[2,3]", 8, 20) + ",\"__metadata__\":{\"k\":\"v\"}," +
                             Entry("a", "F32", "[2]", 0, 8) + "," + Entry("empty", "F64", "[0,4]", 8, 8) + "}  ";
  const auto file = Read(SafetensorsFile(header, std::string(20, '\0')));
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors[0].name, "a");
  EXPECT_EQ(file.tensors[1].name, "empty");
  EXPECT_EQ(file.tensors[2].name, "b");
  EXPECT_EQ(file.tensors[2].type, ElementType::kBf16);
  EXPECT_EQ(file.tensors[2].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.tensors[2].offset, static_cast<std::int64_t>(8 + header.size() + 8));
  EXPECT_EQ(file.metadata.at("k"), "v");
}

TEST(Safetensors, ReadsAnEmptyFileAndAllTypes) {
  EXPECT_TRUE(Read(SafetensorsFile("{}", "")).tensors.empty());
  for (const auto& [name, bytes] : {std::pair{"BOOL", 1},
                                    {"U8", 1},
                                    {"I16", 2},
                                    {"F16", 2},
                                    {"I64", 8},
                                    {"I8", 1},
                                    {"F8_E4M3", 1},
                                    {"F8_E5M2", 1},
                                    {"F8_E8M0", 1},
                                    {"F8_E4M3FNUZ", 1},
                                    {"F8_E5M2FNUZ", 1}}) {
    EXPECT_EQ(DefectOf("{" + Entry("t", name, "[]", 0, bytes) + "}", static_cast<std::size_t>(bytes)), std::nullopt) << name;
  }
}

TEST(Safetensors, WritesWhatItReads) {
  std::vector<isonorm_cli::TensorInfo> tensors(2);
  tensors[0] = {"a \"quoted\" \\ name \xc3\xa4", ElementType::kF16, "", {3}, 0, 6};
  tensors[1] = {"count", ElementType::kOther, "I64", {}, 0, 8};
  const std::string header = isonorm_cli::SafetensorsHeader(tensors, {{"source", "a test"}});
  EXPECT_EQ(header.size() % 8, 0u);
  const auto file = Read(header + std::string(14, '\0'));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "count");  // the widest type first, so that all are aligned
  EXPECT_EQ(file.tensors[0].type_name, "I64");
  EXPECT_EQ(file.tensors[0].offset, tensors[1].offset);
  EXPECT_EQ(file.tensors[1].name, tensors[0].name);
  EXPECT_EQ(file.tensors[1].type_name, "F16");
  EXPECT_EQ(file.tensors[1].offset, tensors[0].offset);
  EXPECT_EQ(file.metadata.at("source"), "a test");
}

TEST(Safetensors, RefusesToWriteWhatCannotBeRead) {
  for (const char* const name : {"__metadata__", "\xff", "\xed\xa0\x80"}) {
    std::vector<isonorm_cli::TensorInfo> tensors(1);
    tensors[0] = {name, ElementType::kF16, "", {3}, 0, 6};
    EXPECT_THROW(isonorm_cli::SafetensorsHeader(tensors, {}), isonorm_cli::FormatError) << name;
  }
  std::vector<isonorm_cli::TensorInfo> unknown(1);
  unknown[0] = {"t", ElementType::kOther, "F33", {3}, 0, 6};
  EXPECT_THROW(isonorm_cli::SafetensorsHeader(unknown, {}), isonorm_cli::FormatError);
}

TEST(Safetensors, RefusesHeaderLengthsThatLie) {
  EXPECT_EQ(DefectOf("1234567"), Defect::kMagic);
  EXPECT_EQ(DefectOf(std::string("\x03\0\0\0\0\0\0\0{}", 10)), Defect::kHeaderLength);
  EXPECT_EQ(DefectOf(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)), Defect::kHeaderLength);
  EXPECT_EQ(DefectOf(std::string("\0\0\0\0\0\0\0\x80{}", 10)), Defect::kHeaderLength);
  EXPECT_EQ(DefectOf(SafetensorsFile("", "")), Defect::kMagic);
  EXPECT_EQ(DefectOf("a text file that is neither of the two"), Defect::kHeaderLength);
}

// Says that its header has so many bytes, and holds something else than JSON in it.
class Claim : public isonorm_cli::Source {
 public:
  explicit Claim(std::uint64_t length) : start_(SafetensorsFile("{x", "")), size_(static_cast<std::int64_t>(length) + 8) {
    std::memcpy(start_.data(), &length, sizeof length);
  }
  std::int64_t size() const override { return size_; }
  void Read(std::int64_t offset, std::span<std::byte> out) const override {
    for (std::byte& b : out) {
      b = static_cast<std::byte>(offset < std::ssize(start_) ? start_[static_cast<std::size_t>(offset)] : ' ');
      ++offset;
    }
  }

 private:
  std::string start_;
  std::int64_t size_;
};

TEST(Safetensors, ReadsHeadersAsLargeAsTheFormatAllows) {
  for (const auto& [length, defect] : {std::pair{100'000'000, Defect::kHeader}, {100'000'001, Defect::kHeaderLength}}) {
    try {
      isonorm_cli::ReadHeader(Claim(static_cast<std::uint64_t>(length)));
      ADD_FAILURE() << "a header that is no JSON was read";
    } catch (const isonorm_cli::FormatError& e) {
      EXPECT_EQ(e.defect(), defect) << length;
    }
  }
  EXPECT_TRUE(Read(SafetensorsFile("{}" + std::string(9 << 20, ' '), "")).tensors.empty());
}

// The JSON parser takes a NUL for the end of the text.
TEST(Safetensors, RefusesANulWhereverItStands) {
  const std::string nul(1, '\0');
  for (const std::string& header : {"{}" + nul + "anything", "{}" + nul, "{" + nul + "}", "{\"a" + nul + "\":1}",
                                    "{" + Entry("t", "F32", "[1]", 0, 4) + "}" + nul + "anything"}) {
    EXPECT_EQ(DefectOf(header, header.size() > 20 ? 4 : 0), Defect::kHeader) << header;
  }
  // In a name it is a character like others.
  const auto file = Read(SafetensorsFile("{" + Entry("a\\u0000b", "F32", "[1]", 0, 4) + "}", "1234"));
  EXPECT_EQ(file.tensors[0].name, std::string("a\0b", 3));
  EXPECT_EQ(file.Find("a"), nullptr);
  EXPECT_EQ(file.Find(std::string("a\0b", 3)), &file.tensors[0]);
}

TEST(Safetensors, RefusesHeadersOfOtherForm) {
  for (const char* const header :
       {"{", "{}x", "{\"t\":1}", "{\"t\":[]}", "{\"t\":null}", "{\"t\":\"x\"}", "{\"t\":{}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", "{\"t\":{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[true],\"data_offsets\":[0,4]}}",
        "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":0}}",
        "{\"t\":{\"dtype\":{\"a\":0},\"shape\":[1],\"data_offsets\":[0,4]}}", "{\"__metadata__\":{\"k\":1}}",
        "{\"__metadata__\":{\"k\":{}}}", "{\"__metadata__\":[]}"}) {
    EXPECT_EQ(DefectOf(header, 4), Defect::kHeader) << header;
  }
  EXPECT_EQ(DefectOf("{" + std::string(1 << 20, '[') + "}", 0), Defect::kHeader);
  std::string deep = "{\"t\":";
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  EXPECT_EQ(DefectOf(deep, 0), Defect::kHeader);
}

TEST(Safetensors, RefusesEachDefect) {
  const std::string t = Entry("t", "F32", "[1]", 0, 4);
  EXPECT_EQ(DefectOf("{" + t + "}", 4), std::nullopt);
  EXPECT_EQ(DefectOf("{" + Entry("\xff", "F32", "[1]", 0, 4) + "}", 4), Defect::kUtf8);
  EXPECT_EQ(DefectOf("{" + Entry("\xed\xa0\x80", "F32", "[1]", 0, 4) + "}", 4), Defect::kUtf8);
  EXPECT_EQ(DefectOf("{" + t + "," + t + "}", 4), Defect::kDuplicate);
  EXPECT_EQ(DefectOf("{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4),
            Defect::kDuplicate);
  EXPECT_EQ(DefectOf("{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0), Defect::kDuplicate);
  EXPECT_EQ(DefectOf("{\"__metadata__\":{},\"__metadata__\":{}}", 0), Defect::kDuplicate);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F33", "[1]", 0, 4) + "}", 4), Defect::kType);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[-1]", 0, 4) + "}", 4), Defect::kShape);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[1]", -4, 0) + "}", 4), Defect::kOffsets);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[2]", 0, 4) + "}", 4), Defect::kSize);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F4", "[3]", 0, 2) + "}", 2), Defect::kSize);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[4294967296,4294967296]", 0, 4) + "}", 4), Defect::kOverflow);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[99999999999999999999]", 0, 4) + "}", 4), Defect::kOverflow);
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", "[18446744073709551615]", 0, 4) + "}", 4), Defect::kOverflow);
  std::string many = "[1";
  for (int i = 0; i < 64; ++i) many += ",1";
  EXPECT_EQ(DefectOf("{" + Entry("t", "F32", many + "]", 0, 4) + "}", 4), Defect::kShape);
}

TEST(Safetensors, RefusesLayoutsThatLie) {
  const std::string a = Entry("a", "F32", "[1]", 0, 4), b = Entry("b", "F32", "[1]", 4, 8);
  EXPECT_EQ(DefectOf("{" + a + "," + b + "}", 8), std::nullopt);
  EXPECT_EQ(DefectOf("{" + a + "," + b + "}", 7), Defect::kOffsets);                                 // beyond the end
  EXPECT_EQ(DefectOf("{" + a + "," + b + "}", 9), Defect::kOffsets);                                 // bytes of nobody
  EXPECT_EQ(DefectOf("{" + a + "," + Entry("b", "F32", "[1]", 2, 6) + "}", 6), Defect::kOffsets);    // overlap
  EXPECT_EQ(DefectOf("{" + a + "," + Entry("b", "F32", "[1]", 0, 4) + "}", 4), Defect::kOffsets);    // the same bytes
  EXPECT_EQ(DefectOf("{" + a + "," + Entry("b", "F32", "[1]", 8, 12) + "}", 12), Defect::kOffsets);  // a hole
  EXPECT_EQ(DefectOf("{" + Entry("a", "F32", "[1]", 8, 4) + "}", 8), Defect::kOffsets);              // end before begin
  EXPECT_EQ(DefectOf("{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 8), Defect::kOffsets);
  EXPECT_EQ(DefectOf("{" + Entry("a", "F32", "[1]", 9223372036854775803, 9223372036854775807) + "}", 4), Defect::kOffsets);
  EXPECT_EQ(DefectOf("{" + Entry("a", "F32", "[0]", 9223372036854775807, 9223372036854775807) + "}", 4), Defect::kOffsets);
}

}  // namespace
}  // namespace isonorm_test
