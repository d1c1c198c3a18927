// Sizes and strides near the ends of int64_t that are no fault by themselves.
#include "api/fault.h"

namespace isonorm_test {
namespace {

// A dimension of one element does not move, so its stride may be anything, also where two tensors meet.
TEST(LargeSizes, TheStrideOfOneElementCountsNowhere) {
  for (const int64_t stride : {INT64_MAX, INT64_MIN, int64_t{0}, int64_t{-1}, int64_t{1} << 62}) {
    ForwardScene scene;
    for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out}) {
      slot->shape[0] = 1;
      slot->strides[0] = stride;
    }
    scene.rstd.shape[0] = 1;
    scene.y.tensor.data = scene.x.data();
    EXPECT_EQ(scene.Run(), ISONORM_OK) << stride << ": " << isonorm_last_error();
    scene.y.tensor.data = scene.x.data() + 4;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"y", "x"}), "") << stride;
    scene.y.tensor.data = scene.x.data() + kCols * 4;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << stride << ": " << isonorm_last_error();
  }
}

// Calls of nothing but x, weight and y are made on a shorter path, which the faults of single tensors do not come along.
TEST(LargeSizes, ByteOffsetOfAPlainCall) {
  for (const char* name : {"x", "weight", "y"}) {
    for (const uint64_t offset : {UINT64_MAX, UINT64_MAX - 3, uint64_t{INT64_MAX}, uint64_t{1} << 63}) {
      ForwardScene scene;
      scene.args.bias = scene.args.residual = scene.args.residual_out = scene.args.rstd = nullptr;
      ASSERT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
      scene.slot(name).tensor.byte_offset = offset;
      EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERFLOW, {name, "byte_offset", std::to_string(offset)}), "") << name;
    }
  }
}

// data alone need not point to anything: an address is data + byte_offset, and no pointer is made of less. It is
// UndefinedBehaviorSanitizer that sees one.
TEST(LargeSizes, ByteOffsetThatLeadsBackToMemory) {
  for (const uint64_t offset : {uint64_t{1}, uint64_t{INT64_MAX}, uint64_t{1} << 63}) {
    ForwardScene scene;
    for (const char* name : {"x", "weight", "bias", "residual", "y", "residual_out", "rstd"}) {
      isonorm_tensor& tensor = scene.slot(name).tensor;
      tensor.data = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(tensor.data) - offset);
      tensor.byte_offset = offset;
    }
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
  }
}

// A question about the workspace computes nothing, so it can be asked about any sizes. Inputs are expanded, outputs are
// vectors.
class WorkspaceQuestion {
 public:
  WorkspaceQuestion(int64_t rows, int64_t cols, isonorm_dtype dtype, int32_t threads) {
    scene_.args.dx = scene_.args.residual = scene_.args.dresidual = scene_.args.rstd = nullptr;
    for (Slot* slot : {&scene_.x, &scene_.dy}) {
      slot->shape[0] = rows;
      slot->shape[1] = cols;
      slot->strides[0] = 0;
      slot->tensor.dtype = dtype;
    }
    for (Slot* slot : {&scene_.weight, &scene_.bias, &scene_.dweight, &scene_.dbias}) {
      slot->shape[0] = cols;
      slot->tensor.dtype = dtype;
    }
    // Nothing is there. Inputs may lie over each other, outputs are apart.
    const auto size = static_cast<uintptr_t>(cols) * (dtype.bits / 8);
    auto* const address = reinterpret_cast<char*>(uintptr_t{1} << 32);
    for (Slot* slot : {&scene_.x, &scene_.dy, &scene_.weight, &scene_.bias}) slot->tensor.data = address;
    scene_.dweight.tensor.data = address + size;
    scene_.dbias.tensor.data = address + 2 * size;
    scene_.args.executor = &scene_.executor;
    scene_.executor.concurrency = threads;
  }
  isonorm_status Ask() { return isonorm_backward_workspace(&scene_.contract, scene_.eps, &scene_.args, &bytes); }

  size_t bytes = 12345;

 private:
  BackwardScene scene_;
};

TEST(LargeSizes, WorkspaceStaysWithinItsBound) {
  for (const int32_t threads : {1, 2, 1000, 1 << 30, INT32_MAX}) {
    for (int log2_rows = 5; log2_rows <= 50; ++log2_rows) {
      for (const int64_t cols : {1, 64, 4097}) {
        if ((int64_t{1} << log2_rows) > INT64_MAX / cols / 4) continue;
        WorkspaceQuestion question(int64_t{1} << log2_rows, cols, ISONORM_F32, threads);
        ASSERT_EQ(question.Ask(), ISONORM_OK) << isonorm_last_error();
        EXPECT_GT(question.bytes, 0u);
        // The header's bound, for dweight and dbias, and what aligning takes.
        const auto rows_of_sums = static_cast<double>(log2_rows - 5 + 2) * 2 * threads;
        EXPECT_LE(static_cast<double>(question.bytes), rows_of_sums * static_cast<double>(cols) * sizeof(float) + 64)
            << "2^" << log2_rows << " rows, " << cols << " columns, " << threads << " threads";
      }
    }
  }
}

TEST(LargeSizes, AWorkspaceThatNoNumberCountsIsAnError) {
  // Two sums in f32 of 2^60 columns have 2^63 bytes, although the 16-bit tensors have 2^61.
  WorkspaceQuestion too_large(1, int64_t{1} << 60, ISONORM_BF16, 1);
  EXPECT_EQ(too_large.Ask(), ISONORM_ERROR_OVERFLOW);
  EXPECT_EQ(too_large.bytes, 12345u);
  EXPECT_NE(std::string(isonorm_last_error()).find("workspace"), std::string::npos) << isonorm_last_error();
  WorkspaceQuestion fits(1, int64_t{1} << 58, ISONORM_BF16, 1);
  EXPECT_EQ(fits.Ask(), ISONORM_OK) << isonorm_last_error();
  EXPECT_EQ(fits.bytes, (size_t{1} << 61) + 64);
}

}  // namespace
}  // namespace isonorm_test
