// Every row that has a number: those with a goal, which docs/speed.md shows, and one for each kernel (table.cc).
#include "bench/bench.h"

#include <utility>

namespace isonorm_cli::bench {

using enum Kind;
using isonorm::dtype;
using isonorm::scale_kind;

namespace {

std::vector<Row> RowsWithGoals() {
  return {
      {"stream.16384x4096.f32", kStream, dtype::f32, 16384, 4096, 88},
      {"stream.16384x4096.bf16", kStream, dtype::bf16, 16384, 4096, 85},
      {"stream.16384x4096.f16", kStream, dtype::f16, 16384, 4096, 85},
      {"stream.8192x8192.f32", kStream, dtype::f32, 8192, 8192, 80},
      {"stream.131072x512.f32", kStream, dtype::f32, 131072, 512, 80},
      {"stream.32x512x4096.f32", kStream, dtype::f32, 16384, 4096, 88, true},
      {"in_place.16384x4096.f32", kInPlace, dtype::f32, 16384, 4096, 95},
      {"in_place.16384x4096.bf16", kInPlace, dtype::bf16, 16384, 4096, 95},
      {"backward.16384x4096.f32", kBackward, dtype::f32, 16384, 4096, 80},
      {"backward.16384x4096.bf16", kBackward, dtype::bf16, 16384, 4096, 80},
      {"cached.1x4096.f32", kCached, dtype::f32, 1, 4096, 1.15},
      {"cached.1x4096.bf16", kCached, dtype::bf16, 1, 4096, 1.15},
      {"cached.1x8192.f32", kCached, dtype::f32, 1, 8192, 1.1},
      {"cached.1x8192.bf16", kCached, dtype::bf16, 1, 8192, 1.1},
      {"cached.8x4096.f32", kCached, dtype::f32, 8, 4096, 1.15},
      {"cached.8x4096.bf16", kCached, dtype::bf16, 8, 4096, 1.15},
      {"cached.512x4096.f32", kCached, dtype::f32, 512, 4096, 1.15},
      {"cached.512x4096.bf16", kCached, dtype::bf16, 512, 4096, 1.15},
      {"cached.128x128.f32", kCached, dtype::f32, 128, 128, 1.1},
      {"cached.128x128.bf16", kCached, dtype::bf16, 128, 128, 1.1},
      {"cached.4096x128.f32", kCached, dtype::f32, 4096, 128, 1.1},
      {"cached.4096x128.bf16", kCached, dtype::bf16, 4096, 128, 1.1},
      {"qk_rope.4096x40x128.bf16", kRope, dtype::bf16, 4096, 128, 80},
      {"qk_rope_cached.16x40x128.bf16", kRopeCached, dtype::bf16, 16, 128, 1.3},
      {"call_overhead.1x128.f32", kCallOverhead, dtype::f32, 1, 128, 40},
      {"widths.f32", kWidths, dtype::f32, 0, 0, 1.5},
      {"widths.bf16", kWidths, dtype::bf16, 0, 0, 1.5},
      {"misaligned.1x4096.f32", kMisaligned, dtype::f32, 1, 4096, 1.25},
      {"misaligned.64x4096.f32", kMisaligned, dtype::f32, 64, 4096, 1.25},
      {"misaligned.64x4096.bf16", kMisaligned, dtype::bf16, 64, 4096, 1.25},
      {"misaligned.1024x128.bf16", kMisaligned, dtype::bf16, 1024, 128, 1.25},
      {"misaligned.16384x4096.f32", kMisaligned, dtype::f32, 16384, 4096, 1.25},
      {"avx2.1x4096.f32", kTarget, dtype::f32, 1, 4096, 1.6},
      {"avx2.64x4096.f32", kTarget, dtype::f32, 64, 4096, 1.6},
      {"avx2.64x4096.bf16", kTarget, dtype::bf16, 64, 4096, 1.6},
      {"avx2.1024x128.f32", kTarget, dtype::f32, 1024, 128, 1.6},
      {"avx2.16384x4096.f32", kTarget, dtype::f32, 16384, 4096, 1.05},
      {"avx2.16384x4096.bf16", kTarget, dtype::bf16, 16384, 4096, 1.05},
      {"two_threads.16384x4096.f32", kTwoThreads, dtype::f32, 16384, 4096, 1.7},
      {"two_threads.16384x4096.bf16", kTwoThreads, dtype::bf16, 16384, 4096, 1.7},
      {"two_threads.512x4096.f32", kTwoThreads, dtype::f32, 512, 4096, 1.7},
      {"two_threads_small.1x128.f32", kSmallTwoThreads, dtype::f32, 1, 128, 1.05},
      {"two_threads_small.1x4096.f32", kSmallTwoThreads, dtype::f32, 1, 4096, 1.05},
      {"two_threads_small.8x4096.f32", kSmallTwoThreads, dtype::f32, 8, 4096, 1.05},
      {"two_threads_small.32x4096.bf16", kSmallTwoThreads, dtype::bf16, 32, 4096, 1.05},
      {"two_threads_small.128x128.f32", kSmallTwoThreads, dtype::f32, 128, 128, 1.05},
      {"residual.16384x4096.f32", kResidual, dtype::f32, 16384, 4096, 80},
      {"residual.16384x4096.bf16", kResidual, dtype::bf16, 16384, 4096, 80},
      {"gate_before.16384x4096.f32", kGateBefore, dtype::f32, 16384, 4096, 80},
      {"gate_before.16384x4096.bf16", kGateBefore, dtype::bf16, 16384, 4096, 80},
      {"gate_after.16384x4096.f32", kGateAfter, dtype::f32, 16384, 4096, 80},
      {"gate_after.16384x4096.bf16", kGateAfter, dtype::bf16, 16384, 4096, 80},
      {"gate_backward.16384x4096.f32", kGateBackward, dtype::f32, 16384, 4096, 80},
      {"gate_backward.16384x4096.bf16", kGateBackward, dtype::bf16, 16384, 4096, 80},
      {"quantized.16384x4096.i8.static", kQuantized, dtype::bf16, 16384, 4096, 80, false, dtype::i8, scale_kind::fixed},
      {"quantized.16384x4096.i8.dynamic", kQuantized, dtype::bf16, 16384, 4096, 80, false, dtype::i8, scale_kind::dynamic},
      {"quantized.16384x4096.e4m3.static", kQuantized, dtype::bf16, 16384, 4096, 80, false, dtype::e4m3, scale_kind::fixed},
      {"quantized.16384x4096.e4m3.dynamic", kQuantized, dtype::bf16, 16384, 4096, 80, false, dtype::e4m3, scale_kind::dynamic},
      {"cached_residual.8x4096.bf16", kCachedResidual, dtype::bf16, 8, 4096, 1.3},
  };
}

}  // namespace

const std::vector<Row>& Rows() {
  static const std::vector<Row> all = [] {
    std::vector<Row> rows = RowsWithGoals();
    for (Row& row : TableRows()) rows.push_back(std::move(row));
    return rows;
  }();
  return all;
}

Result RunRow(const Row& row, const Settings& settings, Arena& arena) {
  switch (row.kind) {
    case kStream:
    case kInPlace: return RunStream(row, settings, arena);
    case kBackward: return RunBackward(row, settings, arena);
    case kCached: return RunCached(row, settings, arena);
    case kRope:
    case kRopeCached: return RunRope(row, settings, arena);
    case kCallOverhead: return RunCallOverhead(row, settings, arena);
    case kWidths: return RunWidths(row, settings, arena);
    case kMisaligned: return RunMisaligned(row, settings, arena);
    case kTarget: return RunTarget(row, settings, arena);
    case kTwoThreads: return RunTwoThreads(row, settings, arena);
    case kSmallTwoThreads: return RunSmallTwoThreads(row, settings, arena);
    case kResidual:
    case kGateBefore:
    case kGateAfter:
    case kGateBackward:
    case kQuantized: return RunFused(row, settings, arena);
    case kTable: return RunTable(row, settings, arena);
    case kCachedResidual: return RunCachedResidual(row, settings, arena);
  }
  return {};
}

}  // namespace isonorm_cli::bench
