// Strides, views, leading dimensions and misalignment: no layout changes a bit, and nothing beside the elements is touched.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "run.h"

namespace core_test {
namespace {

constexpr std::array<Slot, 9> kRowSlots = {kX, kResidual, kGate, kDy, kDresidual, kResidualOut, kY, kDx, kDgate};

class LayoutTest : public testing::TestWithParam<std::string> {
 protected:
  // Forward and all forms of backward in this layout.
  static void Check(const Problem& problem, const Expected& expected, const Layout& layout, const std::string& what) {
    How how;
    how.layout = layout;
    const ScopedTarget target(GetParam());
    const Problem forward = ForwardOf(problem);
    Same(forward, expected.forward, Compute(forward, expected.inputs, how), what);
    for (const Rstd rstd : {Rstd::kSaved, Rstd::kRecomputed}) {
      const Problem backward = BackwardOf(problem, rstd);
      Same(backward, expected.backward, Compute(backward, expected.inputs, how), what);
      if (!MayUseStoredSum(problem)) continue;
      const Problem stored = BackwardOf(problem, rstd, Sum::kFromStored);
      Same(stored, expected.backward, Compute(stored, expected.inputs, how), what);
    }
  }
};

// Strides of leading dimensions in any order of nesting, with `padding` elements between neighbours at every level.
std::vector<int64_t> Strides(const std::vector<int64_t>& lead, int64_t cols, uint64_t seed, int64_t padding) {
  std::vector<size_t> order(lead.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[Mix(seed + i) % i]);
  std::vector<int64_t> strides(lead.size());
  int64_t step = cols + padding;
  for (const size_t dimension : order) {
    strides[dimension] = step;
    step = step * std::max<int64_t>(lead[dimension], 1) + padding;
  }
  return strides;
}

TEST_P(LayoutTest, RowsApart) {
  for (const int64_t cols : {1, 17, 64, 130, 769}) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const Problem problem = Random(seed * 100 + static_cast<uint64_t>(cols), 5, cols);
      const Expected expected = Reference(problem);
      Layout all;
      for (size_t i = 0; i < kRowSlots.size(); ++i) {
        const int64_t stride = cols + static_cast<int64_t>(1 + (seed + i) % 67);
        Layout one;
        one.place[kRowSlots[i]].strides = {stride};
        all.place[kRowSlots[i]].strides = {stride};
        Check(problem, expected, one, std::string("rows apart in ") + NameOf(kRowSlots[i]));
      }
      Check(problem, expected, all, "rows apart everywhere");
    }
  }
}

TEST_P(LayoutTest, RowsInReverse) {
  for (const int64_t cols : {1, 33, 257}) {
    const Problem problem = Random(77 + static_cast<uint64_t>(cols), 37, cols);
    const Expected expected = Reference(problem);
    Layout all;
    for (const Slot slot : kRowSlots) {
      Layout one;
      one.place[slot].strides = all.place[slot].strides = {-(cols + 2)};
      Check(problem, expected, one, std::string("reversed ") + NameOf(slot));
    }
    Check(problem, expected, all, "reversed everywhere");
  }
}

// The gradient of a sum reaches backward with stride 0; so may any other input.
TEST_P(LayoutTest, BroadcastInputs) {
  for (const int64_t cols : {5, 128, 300}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      const Problem problem = Random(seed * 11 + static_cast<uint64_t>(cols), 6, cols);
      for (const Slot slot : {kX, kResidual, kGate, kDy, kDresidual}) {
        if (!problem.has(slot)) continue;
        for (const bool outer : {true, false}) {
          Values inputs = MakeInputs(problem);
          const size_t row = static_cast<size_t>(cols) * SizeOf(problem.type[slot]);
          for (size_t r = 0; r < 6; ++r) {  // as {2, 3}, with either dimension broadcast
            const size_t source = outer ? r % 3 : r / 3 * 3;
            std::copy_n(inputs[slot].begin() + static_cast<std::ptrdiff_t>(source * row), row,
                        inputs[slot].begin() + static_cast<std::ptrdiff_t>(r * row));
          }
          Layout layout;
          layout.lead = {2, 3};
          layout.place[slot].strides = outer ? std::vector<int64_t>{0, cols} : std::vector<int64_t>{cols, 0};
          Check(problem, Reference(problem, inputs), layout, std::string("broadcast ") + NameOf(slot));
        }
      }
    }
  }
}

// What `expand` makes of one value, or of one for each row: the last stride is 0 too. As if every element were there.
TEST_P(LayoutTest, OneValueForARow) {
  for (const int64_t cols : {2, 5, 64, 128, 300, 1030}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      const Problem problem = Random(seed * 13 + static_cast<uint64_t>(cols), 6, cols);
      for (const Slot slot : {kX, kResidual, kGate, kDy, kDresidual, kWeight, kBias}) {
        if (!problem.has(slot)) continue;
        for (const bool whole : {true, false}) {
          const Values inputs = WithOneValue(problem, MakeInputs(problem), slot, whole);
          Layout layout;
          layout.place[slot].strides = problem.is_vector(slot) ? std::vector<int64_t>{0}
                                       : whole                 ? std::vector<int64_t>{0, 0}
                                                               : std::vector<int64_t>{3, 0};
          Check(problem, Reference(problem, inputs), layout, std::string("one value in ") + NameOf(slot));
        }
      }
    }
  }
}

// One head of a packed qkv tensor [tokens, 3, heads, 128], read in place and written to another such tensor.
TEST_P(LayoutTest, HeadsOfPackedProjections) {
  constexpr int64_t kTokens = 5, kHeads = 4, kDim = 128;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const Problem problem = Random(seed, kTokens * kHeads, kDim);
    Layout layout;
    layout.lead = {kTokens, kHeads};
    for (const Slot slot : kRowSlots) layout.place[slot].strides = {3 * kHeads * kDim, kDim};
    layout.place[kGate].strides = {kDim, kTokens * kDim};  // [heads, tokens, 128]
    Check(problem, Reference(problem), layout, "packed heads");
  }
}

TEST_P(LayoutTest, SixLeadingDimensions) {
  const std::vector<std::vector<int64_t>> shapes = {{2, 1, 3, 2, 1, 2}, {2, 2, 2, 2, 2, 2}, {4, 3, 2}, {1, 24}, {24, 1},
                                                    {3, 1, 1, 8},       {2, 0, 3}};
  for (const std::vector<int64_t>& lead : shapes) {
    int64_t rows = 1;
    for (const int64_t size : lead) rows *= size;
    for (const int64_t cols : {1, 40, 131}) {
      for (uint64_t seed = 1; seed <= 4; ++seed) {
        const Problem problem = Random(seed + static_cast<uint64_t>(cols), rows, cols);
        Layout layout;
        layout.lead = lead;
        for (const Slot slot : kRowSlots) {
          const uint64_t order = seed * 100 + static_cast<uint64_t>(slot);
          layout.place[slot].strides = Strides(lead, cols, order, static_cast<int64_t>(Mix(order) % 4));
        }
        Check(problem, Reference(problem), layout, std::to_string(lead.size()) + " leading dimensions");
      }
    }
  }
}

// Without elements no stride is wrong: tensors without rows come with whatever their library leaves there.
TEST_P(LayoutTest, AnyStridesOfNoRows) {
  for (const std::vector<int64_t>& strides : {std::vector<int64_t>{0, 0}, {1, 1}, {-3, 2}, {40, 40}}) {
    const Problem problem = Random(8, 0, 40);
    Layout layout;
    layout.lead = {2, 0};
    for (const Slot slot : kRowSlots) layout.place[slot].strides = strides;
    Check(problem, Reference(problem), layout, "no rows");
  }
}

// x as one vector, without leading dimensions, where rstd is [1].
TEST_P(LayoutTest, NoLeadingDimension) {
  for (const int64_t cols : {1, 100, 1000}) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      const Problem problem = Random(seed + static_cast<uint64_t>(cols), 1, cols);
      Layout layout;
      layout.lead = std::vector<int64_t>();
      Check(problem, Reference(problem), layout, "a vector");
    }
  }
}

// rstd as a column of a matrix, per row and per group.
TEST_P(LayoutTest, StridedStatistics) {
  for (const int64_t groups : {1, 4}) {
    Problem problem = Random(5, 34, 64);
    problem.groups = groups;
    problem.window = 0;
    Quantize(11, &problem);
    Layout layout;
    layout.lead = {17, 2};
    layout.place[kScale].strides = problem.scales() == 1 ? std::vector<int64_t>{2, 1} : std::vector<int64_t>{20, 7};
    layout.place[kRstd].strides = groups == 1 ? std::vector<int64_t>{2, 1} : std::vector<int64_t>{20, 7};
    layout.place[kMean].strides = layout.place[kRstd].strides;
    Check(problem, Reference(problem), layout, "strided rstd");
    layout.place[kRstd].strides =
        layout.place[kMean].strides = {31, 9, 1};  // with a dimension for the groups, also where it is 1
    Check(problem, Reference(problem), layout, "strided rstd with groups");
  }
}

TEST_P(LayoutTest, EveryMisalignmentOfEveryTensor) {
  for (const int64_t cols : {3, 64, 131, 520}) {
    for (uint64_t seed = 1; seed <= 3; ++seed) {
      const Problem problem = Random(seed * 10 + static_cast<uint64_t>(cols), 3, cols);
      const Expected expected = Reference(problem);
      for (int offset = 0; offset < 8; ++offset) {
        Layout all;
        for (int slot = 0; slot < kSlots; ++slot) {
          Layout one;
          one.place[static_cast<size_t>(slot)].offset = offset;
          all.place[static_cast<size_t>(slot)].offset = (offset + slot) % 8;
          Check(problem, expected, one, "misaligned by " + std::to_string(offset) + ": " + NameOf(static_cast<Slot>(slot)));
        }
        Check(problem, expected, all, "misaligned everywhere");
      }
    }
  }
}

// Elements that lie on no multiple of their size, as in a file that is mapped; UndefinedBehaviorSanitizer looks at each access.
TEST_P(LayoutTest, UnalignedElements) {
  for (const int64_t cols : {3, 192, 520}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      Problem problem = Random(seed * 10 + static_cast<uint64_t>(cols), 3, cols);
      if (seed % 3 == 1) Quantize(seed, &problem);
      if (seed % 3 == 2) Rotate(seed, &problem);
      const Expected expected = Reference(problem);
      for (int bytes = 1; bytes < 8; ++bytes) {
        Layout all;
        for (int slot = 0; slot < kSlots; ++slot) {
          Layout one;
          one.place[static_cast<size_t>(slot)].bytes = bytes;
          all.place[static_cast<size_t>(slot)].bytes = (bytes + slot) % 7 + 1;
          if (!problem.has(static_cast<Slot>(slot)) || (bytes + slot) % 3 != 0) continue;
          Check(problem, expected, one, std::to_string(bytes) + " bytes off: " + NameOf(static_cast<Slot>(slot)));
        }
        Check(problem, expected, all, "unaligned everywhere");
      }
    }
  }
}

// Of plain, fused, rotated and centred rows, which have loops of their own.
TEST_P(LayoutTest, UnalignedElementsInTunedLoops) {
  for (const Type type : {Type::kF32, Type::kBf16, Type::kF16}) {
    for (uint64_t part = 0; part < 7; ++part) {
      Problem problem = Simple(type, 35, 192);
      problem.seed = part;
      if (part == 1) problem.type[kResidual] = type;
      if (part == 2 || part == 3) {
        problem.contract.gate_place = part == 2 ? ISONORM_GATE_BEFORE : ISONORM_GATE_AFTER;
        problem.type[kGate] = type;
      }
      if (part == 4) Quantize(7, &problem);
      if (part == 5) {
        Rotate(1, &problem);
        problem.rotation.half = problem.cols / 2;
      }
      if (part == 6) {
        problem.contract.statistic = ISONORM_STATISTIC_LAYER;
        problem.type[kBias] = type;
      }
      const Expected expected = Reference(problem);
      for (int bytes = 1; bytes < 8; ++bytes) {
        Layout all;
        for (int slot = 0; slot < kSlots; ++slot) all.place[static_cast<size_t>(slot)].bytes = (bytes + slot) % 7 + 1;
        Check(problem, expected, all, "unaligned everywhere");
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Target, LayoutTest, testing::ValuesIn(Targets()), [](const auto& name) { return name.param; });

}  // namespace
}  // namespace core_test
