// The reader of .npy: what NumPy writes is read, and everything else is refused for its own reason.
#include "formats/npy.h"

#include <gtest/gtest.h>

#include <optional>

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

// A file whose data is as long as shape and type ask for, unless told otherwise.
std::string File(const std::string& descr, const std::string& shape, std::size_t bytes, int major = 1, int minor = 0) {
  return NpyFile(NpyDictionary(descr, shape), std::string(bytes, '\0'), major, minor);
}

TEST(Npy, ReadsAllVersions) {
  for (const int major : {1, 2, 3}) {
    const auto file = Read(File("<f4", "(2, 3)", 24, major));
    ASSERT_EQ(file.tensors.size(), 1u);
    const auto& t = file.tensors[0];
    EXPECT_EQ(file.kind, isonorm_cli::FileKind::kNpy);
    EXPECT_EQ(t.type, ElementType::kF32);
    EXPECT_EQ(t.shape, (std::vector<std::int64_t>{2, 3}));
    EXPECT_EQ(t.bytes, 24);
    EXPECT_EQ(t.offset, static_cast<std::int64_t>(File("<f4", "(2, 3)", 0, major).size()));
  }
}

TEST(Npy, ReadsTypesAndShapes) {
  EXPECT_EQ(Read(File("<f2", "(3,)", 6)).tensors[0].type, ElementType::kF16);
  EXPECT_EQ(Read(File("<f8", "()", 8)).tensors[0].type, ElementType::kF64);
  EXPECT_EQ(Read(File("<i8", "(1,)", 8)).tensors[0].type, ElementType::kOther);
  EXPECT_EQ(Read(File("|u1", "(5,)", 5)).tensors[0].type, ElementType::kOther);
  EXPECT_EQ(Read(File("<f4", "(0, 7)", 0)).tensors[0].bytes, 0);
  EXPECT_EQ(Read(File("<f4", "(2L, 3L)", 24)).tensors[0].bytes, 24);  // Python 2
  EXPECT_EQ(
      Read(NpyFile(R"({"shape": (1, 2), "fortran_order": False, "descr": "<f4"})", std::string(8, '\0'))).tensors[0].bytes, 8);
}

TEST(Npy, WritesWhatItReads) {
  const std::string header = isonorm_cli::NpyHeader(ElementType::kF16, {5});
  EXPECT_EQ(header.size() % 64, 0u);
  EXPECT_EQ(header.back(), '\n');
  const auto file = Read(header + std::string(10, '\0'));
  EXPECT_EQ(file.tensors[0].type, ElementType::kF16);
  EXPECT_EQ(file.tensors[0].shape, (std::vector<std::int64_t>{5}));
  EXPECT_THROW(isonorm_cli::NpyHeader(ElementType::kBf16, {5}), isonorm_cli::FormatError);
}

TEST(Npy, RefusesEachDefect) {
  EXPECT_EQ(DefectOf(""), Defect::kMagic);
  EXPECT_EQ(DefectOf("\x93NUM"), Defect::kMagic);
  EXPECT_EQ(DefectOf(std::string("\x93NUMPY\x01", 7)), Defect::kTruncated);
  EXPECT_EQ(DefectOf(std::string("\x93NUMPY\x02\0\x10\0", 10)), Defect::kTruncated);
  EXPECT_EQ(DefectOf(File("<f4", "(1,)", 4, 4)), Defect::kVersion);
  EXPECT_EQ(DefectOf(File("<f4", "(1,)", 4, 0)), Defect::kVersion);
  EXPECT_EQ(DefectOf(File("<f4", "(1,)", 4, 1, 1)), Defect::kVersion);
  EXPECT_EQ(DefectOf(std::string("\x93NUMPY\x01\0\xff\xff{}", 12)), Defect::kHeaderLength);
  EXPECT_EQ(DefectOf(std::string("\x93NUMPY\x02\0\xff\xff\xff\xff{}", 14)), Defect::kHeaderLength);
  EXPECT_EQ(DefectOf(File("<f4", "(2,)", 7)), Defect::kTruncated);
  EXPECT_EQ(DefectOf(File("<f4", "(2,)", 9)), Defect::kSize);
  EXPECT_EQ(DefectOf(File(">f4", "(1,)", 4)), Defect::kEndian);
  EXPECT_EQ(DefectOf(File("<V2", "(1,)", 2)), Defect::kType);
  EXPECT_EQ(DefectOf(File("<f3", "(1,)", 3)), Defect::kType);
  EXPECT_EQ(DefectOf(File("f4", "(1,)", 4)), Defect::kType);
  EXPECT_EQ(DefectOf(File("", "(1,)", 4)), Defect::kType);
  EXPECT_EQ(DefectOf(NpyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1), }", "0000")), Defect::kFortran);
  EXPECT_EQ(DefectOf(File("<f4", "(-1,)", 4)), Defect::kShape);
  EXPECT_EQ(DefectOf(File("<f4", "(99999999999999999999,)", 4)), Defect::kOverflow);
  EXPECT_EQ(DefectOf(File("<f4", "(4294967296, 4294967296)", 4)), Defect::kOverflow);
  EXPECT_EQ(DefectOf(File("<f4", "(0, 4294967296, 4294967296)", 0)), Defect::kOverflow);
  EXPECT_EQ(DefectOf(File("<f8", "(1152921504606846976,)", 8)), Defect::kOverflow);
  std::string many = "(";
  for (int i = 0; i < 65; ++i) many += "1,";
  EXPECT_EQ(DefectOf(File("<f4", many + ")", 4)), Defect::kShape);
}

TEST(Npy, RefusesHeadersThatAreNoDictionary) {
  const std::string data(4, '\0');
  for (const char* const text :
       {"", "{", "[]", "{'descr'", "{'descr': '<f4'", "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'shape': (1,)}", "{'descr': <f4, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "{'descr': '<f4', 'fortran_order': False, 'shape': (1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,) 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,)}", "{'descr': '<f4', 'fortran_order': False, 'shape': (a,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} tail",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'other': 1}", "{'descr': '<f4, 'fortran_order': False}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"}) {
    EXPECT_EQ(DefectOf(NpyFile(text, data)), Defect::kHeader) << text;
  }
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
  EXPECT_EQ(DefectOf(NpyFile(good, data)), std::nullopt);
  EXPECT_EQ(DefectOf(NpyFile(good + std::string("\0anything", 9), data)), Defect::kHeader);
  EXPECT_EQ(DefectOf(NpyFile("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", data)),
            Defect::kDuplicate);
}

}  // namespace
}  // namespace isonorm_test
