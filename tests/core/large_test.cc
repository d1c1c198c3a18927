// Offsets and sizes beyond 32 bits. The memory is promised and not there: only pages that are written take room.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>

#include "run.h"
#include "support/rms.h"

namespace core_test {
namespace {

// Zeros.
class Sparse {
 public:
  explicit Sparse(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Sparse() {
    if (there()) munmap(data_, bytes_);
  }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  bool there() const { return data_ != MAP_FAILED; }
  char* at(int64_t offset) const { return static_cast<char*>(data_) + offset; }

 private:
  void* data_;
  size_t bytes_;
};

constexpr int64_t kRows = 5, kCols = 200;
constexpr int64_t kFar = (int64_t{1} << 32) + 24;  // elements; cut to 32 bits, a row would begin inside the one before

// x, dy, y and dx in one piece of memory, one behind the other, each with rows `stride` elements apart.
class Rows {
 public:
  Rows(const Problem& problem, int64_t stride)
      : problem_(problem),
        stride_(stride),
        size_(static_cast<int64_t>(SizeOf(problem.type[kX]))),
        memory_(static_cast<size_t>(4 * kRows * stride * size_)) {}
  bool there() const { return memory_.there(); }

  // The rows of y and dx, with rstd and dweight.
  Bytes Run() {
    const Values inputs = MakeInputs(problem_);
    Bytes weight = inputs[kWeight], rstd(static_cast<size_t>(kRows) * 4), dweight(weight.size());
    for (int64_t row = 0; row < kRows; ++row) {
      std::memcpy(At(0, row), inputs[kX].data() + row * kCols * size_, static_cast<size_t>(kCols * size_));
      std::memcpy(At(1, row), inputs[kDy].data() + row * kCols * size_, static_cast<size_t>(kCols * size_));
    }
    int64_t rows = kRows, cols = kCols;
    const isonorm_tensor x = Matrix(0), dy = Matrix(1), y = Matrix(2), dx = Matrix(3);
    const auto vector = [&](Bytes& bytes, isonorm_dtype dtype, int64_t* shape) {
      return isonorm_tensor{bytes.data(), {ISONORM_DEVICE_CPU, 0}, 1, dtype, shape, nullptr, 0};
    };
    const isonorm_dtype type = isonorm_cli::DtypeOf(problem_.type[kX]);
    const isonorm_tensor w = vector(weight, type, &cols), r = vector(rstd, ISONORM_F32, &rows),
                         dw = vector(dweight, type, &cols);
    isonorm_forward_args f = {};
    f.struct_size = sizeof(f);
    f.x = &x;
    f.weight = &w;
    f.y = &y;
    f.rstd = &r;
    EXPECT_EQ(isonorm_forward(&problem_.contract, problem_.eps, &f), ISONORM_OK) << isonorm_last_error();
    isonorm_backward_args b = {};
    b.struct_size = sizeof(b);
    b.dy = &dy;
    b.x = &x;
    b.weight = &w;
    b.rstd = &r;
    b.dx = &dx;
    b.dweight = &dw;
    EXPECT_EQ(isonorm_backward_workspace(&problem_.contract, problem_.eps, &b, &b.workspace_size), ISONORM_OK);
    Bytes workspace(b.workspace_size);
    b.workspace = workspace.data();
    EXPECT_EQ(isonorm_backward(&problem_.contract, problem_.eps, &b), ISONORM_OK) << isonorm_last_error();
    Bytes all;
    const auto add = [&all](const uint8_t* bytes, size_t count) {
      all.resize(all.size() + count);
      std::memcpy(all.data() + all.size() - count, bytes, count);
    };
    add(rstd.data(), rstd.size());
    add(dweight.data(), dweight.size());
    for (const int tensor : {2, 3}) {
      for (int64_t row = 0; row < kRows; ++row) add(At(tensor, row), static_cast<size_t>(kCols * size_));
    }
    return all;
  }

 private:
  uint8_t* At(int tensor, int64_t row) const {
    return reinterpret_cast<uint8_t*>(memory_.at((tensor * kRows + row) * stride_ * size_));
  }
  isonorm_tensor Matrix(int tensor) {
    return {At(tensor, 0), {ISONORM_DEVICE_CPU, 0}, 2, isonorm_cli::DtypeOf(problem_.type[kX]), shape_, strides_, 0};
  }

  const Problem& problem_;
  const int64_t stride_, size_;
  const Sparse memory_;
  int64_t shape_[2] = {kRows, kCols};
  int64_t strides_[2] = {stride_, 1};
};

class LargeTest : public testing::TestWithParam<std::string> {};

TEST_P(LargeTest, RowsFarApart) {
  const ScopedTarget target(GetParam());
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (const int32_t statistic : {ISONORM_STATISTIC_RMS, ISONORM_STATISTIC_LAYER}) {
      Problem problem = Simple(type, kRows, kCols);
      problem.contract.statistic = statistic;
      Rows far(problem, kFar);
      if (!far.there()) GTEST_SKIP() << "this system does not promise memory that it does not have";
      const bool same = far.Run() == Rows(problem, kCols).Run();
      EXPECT_TRUE(same) << NameOf(type) << ", statistic " << statistic;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, LargeTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

// Zeros, but for a 4 and a 3 near the ends of what 31 and 32 bits count: the mean square is 25 / 2^32.
TEST(LongRowTest, FourBillionElements) {
  int64_t cols = int64_t{1} << 32, one = 1;
  const Sparse memory(static_cast<size_t>(cols) * 2);
  if (!memory.there()) GTEST_SKIP() << "this system does not promise memory that it does not have";
  constexpr uint16_t kFour = 0x4080, kThree = 0x4040;  // bf16
  std::memcpy(memory.at(((cols >> 1) + 5) * 2), &kFour, sizeof kFour);
  std::memcpy(memory.at((cols - 1) * 2), &kThree, sizeof kThree);
  const isonorm_tensor x = {memory.at(0), {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_BF16, &cols, nullptr, 0};
  float result = 0;
  const isonorm_tensor out = {&result, {ISONORM_DEVICE_CPU, 0}, 1, ISONORM_F32, &one, nullptr, 0};
  EXPECT_EQ(isonorm_test::Rms(&x, &out), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(result, 5.0f / 65536.0f);
  isonorm_contract contract = ISONORM_CONTRACT_TORCH;
  isonorm_forward_args args = {};
  args.struct_size = sizeof(args);
  args.x = &x;
  args.rstd = &out;
  EXPECT_EQ(isonorm_forward(&contract, 0, &args), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(result, 65536.0f / 5.0f);
}

}  // namespace
}  // namespace core_test
