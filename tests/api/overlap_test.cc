// Every output over every other tensor: exactly in place where the header allows it, apart by a hair, and in between.
#include <set>

#include "api/fault.h"

namespace isonorm_test {
namespace {

using Pair = std::pair<std::string, std::string>;

void Vary(Slot& slot, int seed) {
  auto* values = reinterpret_cast<float*>(slot.data());
  const size_t count = (slot.bytes.size() - 2 * Slot::kMargin) / sizeof(float);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>((static_cast<int>(i) * 37 + seed * 11) % 101 - 50) / 16;
}

int64_t SizeOf(const Slot& slot) { return static_cast<int64_t>(slot.bytes.size() - 2 * Slot::kMargin); }

// Calls with inputs that vary, so that a value read after it was overwritten shows.
template <class SceneType>
void Prepare(SceneType& scene, void (*prepare)(SceneType&), const std::vector<const char*>& inputs) {
  prepare(scene);
  int seed = 0;
  for (const char* name : inputs) Vary(scene.slot(name), ++seed);
}

template <class SceneType>
void TryPairs(const std::vector<const char*>& inputs, const std::vector<const char*>& outputs, const std::set<Pair>& in_place,
              void (*prepare)(SceneType&)) {
  SceneType apart;
  Prepare(apart, prepare, inputs);
  ASSERT_EQ(apart.Run(), ISONORM_OK) << isonorm_last_error();
  std::vector<const char*> others = inputs;
  others.insert(others.end(), outputs.begin(), outputs.end());
  for (const char* output : outputs) {
    for (const char* other : others) {
      if (other == output) continue;
      const int64_t size = SizeOf(apart.slot(output)), other_size = SizeOf(apart.slot(other));
      const int64_t row = kCols * 4;
      for (const int64_t shift :
           {-size, 4 - size, -row, int64_t{-4}, int64_t{0}, int64_t{4}, row, other_size - 4, other_size}) {
        SceneType scene;
        Prepare(scene, prepare, inputs);
        Slot& moved = scene.slot(output);
        moved.tensor.data = scene.slot(other).data() + shift;
        const bool disjoint = shift <= -size || shift >= other_size;
        const bool allowed = disjoint || (shift == 0 && in_place.count({output, other}) != 0);
        if (!allowed) {
          EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {output, other, "overlap"}), "")
              << output << " over " << other << " " << shift;
          continue;
        }
        ASSERT_EQ(scene.Run(), ISONORM_OK) << output << " over " << other << " " << shift << ": " << isonorm_last_error();
        for (const char* name : outputs) {
          const Slot& expected = apart.slot(name);
          const void* got = scene.slot(name).tensor.data;
          EXPECT_EQ(std::memcmp(got, expected.tensor.data, static_cast<size_t>(SizeOf(expected))), 0)
              << name << " differs with " << output << " over " << other << " " << shift;
        }
      }
    }
  }
}

TEST(Overlap, Forward) {
  TryPairs<ForwardScene>({"x", "weight", "bias", "residual"}, {"y", "residual_out", "rstd"},
                         {{"y", "x"}, {"y", "residual"}, {"residual_out", "x"}, {"residual_out", "residual"}},
                         [](ForwardScene&) {});
}

TEST(Overlap, LayerNorm) {
  TryPairs<ForwardScene>({"x", "weight"}, {"y", "rstd", "mean"}, {{"y", "x"}}, [](ForwardScene& s) {
    s.UseLayerNorm();
    s.args.residual = s.args.residual_out = nullptr;
  });
  TryPairs<BackwardScene>({"dy", "x", "rstd", "mean"}, {"dx", "dweight"}, {{"dx", "dy"}, {"dx", "x"}}, [](BackwardScene& s) {
    s.UseLayerNorm();
    s.args.residual = s.args.dresidual = s.args.dbias = s.args.bias = nullptr;
  });
}

TEST(Overlap, ForwardGate) {
  for (const auto prepare :
       {+[](ForwardScene& s) { s.UseGate(ISONORM_GATE_BEFORE); }, +[](ForwardScene& s) { s.UseGate(ISONORM_GATE_AFTER); }}) {
    TryPairs<ForwardScene>({"x", "weight", "bias", "gate"}, {"y", "rstd"}, {{"y", "x"}, {"y", "gate"}}, prepare);
  }
}

TEST(Overlap, Backward) {
  TryPairs<BackwardScene>({"dy", "x", "weight", "bias", "residual", "dresidual"}, {"dx", "dweight", "dbias"},
                          {{"dx", "dy"}, {"dx", "x"}, {"dx", "dresidual"}, {"dx", "residual"}},
                          [](BackwardScene& s) { s.args.rstd = nullptr; });
}

TEST(Overlap, BackwardGate) {
  TryPairs<BackwardScene>({"dy", "x", "weight", "bias", "gate"}, {"dx", "dweight", "dbias", "dgate"},
                          {{"dx", "dy"}, {"dx", "x"}, {"dx", "gate"}, {"dgate", "dy"}, {"dgate", "x"}, {"dgate", "gate"}},
                          [](BackwardScene& s) {
                            s.UseGate(ISONORM_GATE_BEFORE);
                            s.args.rstd = nullptr;
                          });
}

TEST(Overlap, BackwardRstd) {
  TryPairs<BackwardScene>({"dy", "x", "rstd"}, {"dx", "dweight"}, {{"dx", "dy"}, {"dx", "x"}},
                          [](BackwardScene& s) { s.args.residual = s.args.dresidual = s.args.dbias = s.args.bias = nullptr; });
}

// dx over residual_out, which is read in place of x, whether x is given as well or not.
TEST(Overlap, BackwardFromResidualOut) {
  const auto without_x = [](BackwardScene& s) {
    s.args.residual = s.args.x = s.args.rstd = nullptr;
    s.args.residual_out = &s.residual_out.tensor;
  };
  TryPairs<BackwardScene>({"dy", "weight", "bias", "residual_out", "dresidual"}, {"dx", "dweight", "dbias"},
                          {{"dx", "dy"}, {"dx", "residual_out"}, {"dx", "dresidual"}}, without_x);
  TryPairs<BackwardScene>({"dy", "x", "weight", "residual_out"}, {"dx", "dweight"},
                          {{"dx", "dy"}, {"dx", "x"}, {"dx", "residual_out"}}, [](BackwardScene& s) {
                            s.args.residual = s.args.dresidual = s.args.bias = s.args.dbias = s.args.rstd = nullptr;
                            s.args.residual_out = &s.residual_out.tensor;
                          });
}

// A gate after the norm is the one that goes together with a residual.
TEST(Overlap, BackwardGateAndResidual) {
  const std::set<Pair> in_place = {{"dx", "dy"},          {"dx", "x"},           {"dx", "gate"}, {"dx", "residual"},
                                   {"dx", "dresidual"},   {"dgate", "dy"},       {"dgate", "x"}, {"dgate", "gate"},
                                   {"dgate", "residual"}, {"dgate", "dresidual"}};
  TryPairs<BackwardScene>({"dy", "x", "weight", "bias", "gate", "residual", "dresidual"}, {"dx", "dweight", "dbias", "dgate"},
                          in_place, [](BackwardScene& s) {
                            s.UseGate(ISONORM_GATE_AFTER);
                            s.args.residual = &s.residual.tensor;
                            s.args.dresidual = &s.dresidual.tensor;
                            s.args.rstd = nullptr;
                          });
  TryPairs<BackwardScene>({"dy", "weight", "bias", "gate", "residual_out", "dresidual"}, {"dx", "dweight", "dbias", "dgate"},
                          {{"dx", "dy"},
                           {"dx", "gate"},
                           {"dx", "residual_out"},
                           {"dx", "dresidual"},
                           {"dgate", "dy"},
                           {"dgate", "gate"},
                           {"dgate", "residual_out"},
                           {"dgate", "dresidual"}},
                          [](BackwardScene& s) {
                            s.UseGate(ISONORM_GATE_AFTER);
                            s.args.residual_out = &s.residual_out.tensor;
                            s.args.dresidual = &s.dresidual.tensor;
                            s.args.x = s.args.rstd = nullptr;
                          });
}

// The workspace over every tensor of the call: by its first byte, its last one and in full. Side by side is fine.
void TryWorkspace(const std::vector<const char*>& inputs, const std::vector<const char*>& outputs,
                  void (*prepare)(BackwardScene&)) {
  const auto make = [&](BackwardScene& scene) {
    Prepare(scene, prepare, inputs);
    ASSERT_EQ(scene.Measure(), ISONORM_OK) << isonorm_last_error();
    ASSERT_GT(scene.args.workspace_size, 0u);
    ASSERT_LE(scene.args.workspace_size, Slot::kMargin) << "the tests' tensors have no such room around them";
  };
  BackwardScene apart;
  make(apart);
  ASSERT_EQ(apart.Run(), ISONORM_OK) << isonorm_last_error();
  std::vector<const char*> all = inputs;
  all.insert(all.end(), outputs.begin(), outputs.end());
  for (const char* name : all) {
    const int64_t tensor = SizeOf(apart.slot(name)), workspace = static_cast<int64_t>(apart.args.workspace_size);
    for (const int64_t shift : {-workspace, 1 - workspace, int64_t{-1}, int64_t{0}, tensor - 1, tensor}) {
      BackwardScene scene;
      make(scene);
      scene.args.workspace = scene.slot(name).data() + shift;
      if (shift != -workspace && shift != tensor) {
        EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"workspace", name, "overlap"}), "") << name << " " << shift;
        continue;
      }
      ASSERT_EQ(scene.Run(), ISONORM_OK) << name << " " << shift << ": " << isonorm_last_error();
      for (const char* output : outputs) {
        const size_t size = static_cast<size_t>(SizeOf(apart.slot(output)));
        EXPECT_EQ(std::memcmp(scene.slot(output).data(), apart.slot(output).data(), size), 0) << output << " beside " << name;
      }
    }
  }
}

TEST(Overlap, Workspace) {
  TryWorkspace({"dy", "x", "weight", "residual", "bias", "rstd", "dresidual"}, {"dx", "dweight", "dbias"},
               [](BackwardScene&) {});
  TryWorkspace({"dy", "x", "weight", "gate", "bias", "rstd"}, {"dx", "dweight", "dbias", "dgate"},
               [](BackwardScene& s) { s.UseGate(ISONORM_GATE_AFTER); });
  TryWorkspace({"dy", "weight", "residual_out"}, {"dx", "dweight"}, [](BackwardScene& s) {
    s.args.x = s.args.residual = s.args.dresidual = s.args.rstd = s.args.bias = s.args.dbias = nullptr;
    s.args.residual_out = &s.residual_out.tensor;
  });
}

TEST(Overlap, WorkspaceCountsInFullAndBetweenRows) {
  BackwardScene longer;  // what the call needs is apart, what it was given is not
  longer.args.workspace = longer.dx.data() - longer.args.workspace_size;
  EXPECT_EQ(longer.Run(), ISONORM_OK) << isonorm_last_error();
  for (const size_t size : {longer.args.workspace_size + 1, SIZE_MAX}) {
    longer.args.workspace_size = size;
    EXPECT_EQ(Judge(longer, ISONORM_ERROR_OVERLAP, {"workspace"}), "") << size;
  }
  BackwardScene between;
  between.x.Set(kInputByte, ISONORM_F32, {kRows, 16 * kCols});
  between.x.shape[1] = kCols;
  between.args.workspace = between.x.data() + 4 * kCols * 4;
  EXPECT_EQ(Judge(between, ISONORM_ERROR_OVERLAP, {"workspace", "x"}), "");
}

TEST(Overlap, WorkspaceThatIsNotUsedMayLieAnywhere) {
  BackwardScene scene;
  scene.args.workspace = scene.dx.data();
  size_t bytes = 0;
  EXPECT_EQ(isonorm_backward_workspace(&scene.contract, scene.eps, &scene.args, &bytes), ISONORM_OK) << isonorm_last_error();
  scene.args.dweight = scene.args.dbias = nullptr;
  EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
}

TEST(Overlap, Rms) {
  TryPairs<RmsScene>({"x"}, {"rms"}, {}, [](RmsScene& s) { s.function = RmsScene::kRms; });
  TryPairs<RmsScene>({"x", "drms"}, {"dx"}, {{"dx", "x"}}, [](RmsScene& s) { s.function = RmsScene::kBackward; });
  TryPairs<RmsScene>({"x"}, {"penalty", "dx"}, {{"dx", "x"}}, [](RmsScene& s) { s.function = RmsScene::kPenalty; });
}

TEST(Overlap, InPlaceNeedsTheSameTypeAndStrides) {
  ForwardScene narrower;
  narrower.y.tensor.data = narrower.x.data();
  narrower.y.Retype(ISONORM_BF16);
  EXPECT_EQ(Judge(narrower, ISONORM_ERROR_OVERLAP, {"y", "x"}), "");
  ForwardScene reversed;  // the same bytes, the rows in another order
  reversed.y.tensor.data = reversed.x.data() + (kRows - 1) * kCols * 4;
  reversed.y.strides[0] = -kCols;
  EXPECT_EQ(Judge(reversed, ISONORM_ERROR_OVERLAP, {"y", "x"}), "");
  ForwardScene expanded;  // every row of x is y's first one
  expanded.y.tensor.data = expanded.x.data();
  expanded.x.strides[0] = 0;
  EXPECT_EQ(Judge(expanded, ISONORM_ERROR_OVERLAP, {"y", "x"}), "");
}

TEST(Overlap, ByteOffsetCounts) {
  ForwardScene shifted;
  shifted.y.tensor.data = shifted.x.data();
  shifted.y.tensor.byte_offset = 4;
  EXPECT_EQ(Judge(shifted, ISONORM_ERROR_OVERLAP, {"y", "x"}), "");
  ForwardScene behind;
  behind.y.tensor.data = behind.x.data();
  behind.y.tensor.byte_offset = kRows * kCols * 4;
  EXPECT_EQ(behind.Run(), ISONORM_OK) << isonorm_last_error();
}

// x, residual, y and residual_out as column slices of one matrix, as fused projections give them.
void UseSlices(ForwardScene& scene, float* packed, int64_t width) {
  int64_t at = 0;
  for (Slot* slot : {&scene.x, &scene.residual, &scene.y, &scene.residual_out}) {
    slot->tensor.data = packed + at;
    slot->strides[0] = width;
    at += kCols;
  }
}

TEST(Overlap, InterleavedSlicesOfOneBufferAreApart) {
  constexpr int64_t kWidth = 4 * kCols + 5;
  ForwardScene apart, sliced;
  Vary(apart.x, 1);
  Vary(apart.residual, 2);
  std::vector<float> packed(kRows * kWidth, 7.0f);
  UseSlices(sliced, packed.data(), kWidth);
  for (int64_t row = 0; row < kRows; ++row) {
    float* const packed_row = packed.data() + row * kWidth;
    std::memcpy(packed_row, apart.x.data() + row * kCols * 4, kCols * 4);
    std::memcpy(packed_row + kCols, apart.residual.data() + row * kCols * 4, kCols * 4);
  }
  ASSERT_EQ(apart.Run(), ISONORM_OK);
  ASSERT_EQ(sliced.Run(), ISONORM_OK) << isonorm_last_error();
  for (int64_t row = 0; row < kRows; ++row) {
    const auto* const packed_row = packed.data() + row * kWidth;
    EXPECT_EQ(std::memcmp(static_cast<const void*>(packed_row + 2 * kCols), apart.y.data() + row * kCols * 4, kCols * 4), 0)
        << row;
    EXPECT_EQ(
        std::memcmp(static_cast<const void*>(packed_row + 3 * kCols), apart.residual_out.data() + row * kCols * 4, kCols * 4),
        0)
        << row;
    for (int64_t i = 4 * kCols; i < kWidth; ++i) EXPECT_EQ(packed_row[i], 7.0f);
  }
}

TEST(Overlap, SlicesThatShareOneColumnAreNot) {
  constexpr int64_t kWidth = 4 * kCols;
  for (const int64_t shift : {-1, 1, -static_cast<int>(kWidth) + 1}) {
    ForwardScene scene;
    std::vector<float> packed(static_cast<size_t>((kRows + 2) * kWidth), 7.0f);
    const std::vector<float> before = packed;
    UseSlices(scene, packed.data() + kWidth, kWidth);
    scene.y.tensor.data = static_cast<float*>(scene.y.tensor.data) + shift;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"y", "overlap"}), "") << shift;
    EXPECT_EQ(packed, before);
  }
}

TEST(Overlap, SlicesOfAnotherTypeInOneBuffer) {
  constexpr int64_t kWidth = 4 * kCols;
  std::vector<float> packed(kRows * kWidth, 0.5f);
  for (const int64_t shift : {0, -2}) {
    ForwardScene scene;
    scene.args.residual_out = nullptr;
    UseSlices(scene, packed.data(), kWidth);
    scene.y.tensor.dtype = ISONORM_BF16;
    scene.y.strides[0] = 2 * kWidth;
    scene.y.tensor.data = static_cast<uint8_t*>(scene.y.tensor.data) + shift;
    if (shift == 0) {
      EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    } else {
      EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"y", "residual"}), "");
    }
  }
}

TEST(Overlap, HeadsOfOneProjectionAreApart) {  // [tokens, 3, heads, cols]: x is [:, 0], y is [:, 2]
  constexpr int64_t kTokens = 3, kHeads = 2;
  std::vector<float> packed(kTokens * 3 * kHeads * kCols, 0.5f);
  for (const int64_t first : {2, 1}) {
    ForwardScene scene;
    scene.args.residual = scene.args.residual_out = scene.args.rstd = nullptr;
    for (Slot* slot : {&scene.x, &scene.y}) {
      slot->Set(kInputByte, ISONORM_F32, {kTokens, kHeads, kCols});
      slot->strides[0] = 3 * kHeads * kCols;
    }
    scene.x.tensor.data = packed.data();
    scene.y.tensor.data = packed.data() + first * kHeads * kCols;
    EXPECT_EQ(scene.Run(), ISONORM_OK) << isonorm_last_error();
    scene.y.tensor.data = packed.data() + kHeads * kCols - 1;
    EXPECT_EQ(Judge(scene, ISONORM_ERROR_OVERLAP, {"y", "x"}), "");
  }
}

}  // namespace
}  // namespace isonorm_test
