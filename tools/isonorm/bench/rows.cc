// Every row that has a number: those with a goal, which docs/speed.md shows, and one for each kernel (table.cc).
#include "bench/bench.h"

#include <utility>

#include "bench/machine.h"

namespace isonorm_cli::bench {

using enum Kind;
using isonorm::dtype;
using isonorm::scale_kind;

namespace {

Row Quantized(const char* name, dtype out, scale_kind kind) {
  return {.name = name,
          .kind = kQuantized,
          .type = dtype::bf16,
          .rows = 16384,
          .cols = 4096,
          .goal = {},
          .out = out,
          .scale_kind = kind};
}

// As Mamba2 has it.
Row Grouped(const char* name, dtype type) {
  return {.name = name, .kind = kGateBefore, .type = type, .rows = 2048, .cols = 4096, .goal = {}, .groups = 8};
}

// Rows without a goal of their own, where arithmetic is the limit, have the one that all have: not slower than the plain way.
std::vector<Row> RowsWithGoals() {
  constexpr dtype f32 = dtype::f32, bf16 = dtype::bf16, f16 = dtype::f16;
  const isonorm::contract layer = isonorm::contracts::layer_norm, gemma = isonorm::contracts::gemma;
  constexpr Pages kSmall = Pages::kSmall;
  const double bits16 = IsZen5() ? 90 : 80;  // older cores are busy computing
  const double small_f32 = 88 - 15, small_bits16 = bits16 - 15;
  return {
      {"stream.16384x4096.f32", kStream, f32, 16384, 4096, 88},
      {"stream.16384x4096.bf16", kStream, bf16, 16384, 4096, bits16},
      {"stream.16384x4096.f16", kStream, f16, 16384, 4096, bits16},
      {"stream.16384x4096.bf16.weight_f32", kStream, bf16, 16384, 4096, bits16, f32},
      {"stream.8192x8192.f32", kStream, f32, 8192, 8192, 88},
      {"stream.131072x512.f32", kStream, f32, 131072, 512, 95},
      {.name = "stream.32x512x4096.f32",
       .kind = kStream,
       .type = f32,
       .rows = 16384,
       .cols = 4096,
       .goal = 88,
       .leading = true},
      {.name = "small_pages.16384x4096.f32",
       .kind = kStream,
       .type = f32,
       .rows = 16384,
       .cols = 4096,
       .goal = small_f32,
       .pages = kSmall},
      {.name = "small_pages.16384x4096.bf16",
       .kind = kStream,
       .type = bf16,
       .rows = 16384,
       .cols = 4096,
       .goal = small_bits16,
       .pages = kSmall},
      {"in_place.16384x4096.f32", kInPlace, f32, 16384, 4096, 92},
      {"in_place.16384x4096.bf16", kInPlace, bf16, 16384, 4096, 92},
      {"backward.16384x4096.f32", kBackward, f32, 16384, 4096, 76},
      {"backward.16384x4096.bf16", kBackward, bf16, 16384, 4096, 70},
      {"backward_cached.1x4096.f32", kBackwardCached, f32, 1, 4096, {}},
      {"backward_cached.128x128.f32", kBackwardCached, f32, 128, 128, {}},
      {"cold.512x4096.f32", kCold, f32, 512, 4096, {}},
      {"cold.512x4096.bf16", kCold, bf16, 512, 4096, {}},
      {"cold.4096x128.f32", kCold, f32, 4096, 128, {}},
      {"cached.1x4096.f32", kCached, f32, 1, 4096, 1.2},
      {"cached.1x4096.bf16", kCached, bf16, 1, 4096, 1.25},
      {"cached.1x8192.f32", kCached, f32, 1, 8192, {}},
      {"cached.1x8192.bf16", kCached, bf16, 1, 8192, {}},
      {"cached.8x4096.f32", kCached, f32, 8, 4096, {}},
      {"cached.8x4096.bf16", kCached, bf16, 8, 4096, {}},
      {"cached.512x4096.f32", kCached, f32, 512, 4096, {}},
      {"cached.512x4096.bf16", kCached, bf16, 512, 4096, {}},
      {"cached.128x128.f32", kCached, f32, 128, 128, {}},
      {"cached.128x128.bf16", kCached, bf16, 128, 128, {}},
      {"cached.4096x128.f32", kCached, f32, 4096, 128, {}},
      {"cached.4096x128.bf16", kCached, bf16, 4096, 128, {}},
      {"cached.1x4096.bf16.weight_f32", kCached, bf16, 1, 4096, 1.25, f32},
      {"cached.8x4096.bf16.weight_f32", kCached, bf16, 8, 4096, {}, f32},
      {"cached.512x4096.bf16.weight_f32", kCached, bf16, 512, 4096, {}, f32},
      {"gemma.1x4096.bf16", kCached, bf16, 1, 4096, 1.25, {}, gemma},
      {"gemma.8x4096.bf16", kCached, bf16, 8, 4096, {}, {}, gemma},
      {"gemma.512x4096.bf16", kCached, bf16, 512, 4096, {}, {}, gemma},
      {"layer_norm.16384x4096.f32", kStream, f32, 16384, 4096, 70, {}, layer},
      {"layer_norm.16384x4096.bf16", kStream, bf16, 16384, 4096, 70, {}, layer},
      {"layer_norm_cached.1x4096.f32", kCached, f32, 1, 4096, {}, {}, layer},
      {"layer_norm_cached.1x4096.bf16", kCached, bf16, 1, 4096, {}, {}, layer},
      {"layer_norm_cached.8x4096.f32", kCached, f32, 8, 4096, {}, {}, layer},
      {"layer_norm_cached.8x4096.bf16", kCached, bf16, 8, 4096, {}, {}, layer},
      {"layer_norm_cached.512x4096.f32", kCached, f32, 512, 4096, {}, {}, layer},
      {"layer_norm_cached.512x4096.bf16", kCached, bf16, 512, 4096, {}, {}, layer},
      {"layer_norm_cached.128x128.f32", kCached, f32, 128, 128, {}, {}, layer},
      {"layer_norm_cached.128x128.bf16", kCached, bf16, 128, 128, {}, {}, layer},
      {"layer_norm_backward.512x4096.f32", kBackwardCached, f32, 512, 4096, {}, {}, layer},
      {"layer_norm_backward.512x4096.bf16", kBackwardCached, bf16, 512, 4096, {}, {}, layer},
      {"qk_rope.4096x40x128.bf16", kRope, bf16, 4096, 128, {}},
      {"qk_rope_cached.16x40x128.bf16", kRopeCached, bf16, 16, 128, {}},
      {"call.1x128.f32", kCall, f32, 1, 128, 40},
      {"call_overhead.1x128.f32", kCallOverhead, f32, 1, 128, 40},
      {"widths.f32", kWidths, f32, 0, 0, 1.5},
      {"widths.bf16", kWidths, bf16, 0, 0, 1.5},
      {"misaligned.1x4096.f32", kMisaligned, f32, 1, 4096, 1.25},
      {"misaligned.64x4096.f32", kMisaligned, f32, 64, 4096, 1.25},
      {"misaligned.64x4096.bf16", kMisaligned, bf16, 64, 4096, 1.25},
      {"misaligned.1024x128.bf16", kMisaligned, bf16, 1024, 128, 1.25},
      {"misaligned.16384x4096.f32", kMisaligned, f32, 16384, 4096, 1.25},
      {"avx2.1x4096.f32", kTarget, f32, 1, 4096, 1.6},
      {"avx2.64x4096.f32", kTarget, f32, 64, 4096, 1.6},
      {"avx2.64x4096.bf16", kTarget, bf16, 64, 4096, 1.6},
      {"avx2.1024x128.f32", kTarget, f32, 1024, 128, 1.6},
      {"avx2.16384x4096.f32", kTarget, f32, 16384, 4096, 1.05},
      {"avx2.16384x4096.bf16", kTarget, bf16, 16384, 4096, 1.05},
      {"two_threads.16384x4096.f32", kTwoThreads, f32, 16384, 4096, 1.7},
      {"two_threads.16384x4096.bf16", kTwoThreads, bf16, 16384, 4096, 1.7},
      {"two_threads.512x4096.f32", kTwoThreads, f32, 512, 4096, 1.7},
      {"two_threads_small.1x128.f32", kSmallTwoThreads, f32, 1, 128, 1.05},
      {"two_threads_small.1x4096.f32", kSmallTwoThreads, f32, 1, 4096, 1.05},
      {"two_threads_small.8x4096.f32", kSmallTwoThreads, f32, 8, 4096, 1.05},
      {"two_threads_small.32x4096.bf16", kSmallTwoThreads, bf16, 32, 4096, 1.05},
      {"two_threads_small.128x128.f32", kSmallTwoThreads, f32, 128, 128, 1.05},
      {"residual.16384x4096.f32", kResidual, f32, 16384, 4096, {}},
      {"residual.16384x4096.bf16", kResidual, bf16, 16384, 4096, {}},
      {"gate_before.16384x4096.f32", kGateBefore, f32, 16384, 4096, {}},
      {"gate_before.16384x4096.bf16", kGateBefore, bf16, 16384, 4096, {}},
      Grouped("gate_before.2048x4096.f32.groups8", f32),
      Grouped("gate_before.2048x4096.bf16.groups8", bf16),
      {"gate_after.16384x4096.f32", kGateAfter, f32, 16384, 4096, {}},
      {"gate_after.16384x4096.bf16", kGateAfter, bf16, 16384, 4096, {}},
      {"gate_before_backward.16384x4096.f32", kGateBeforeBackward, f32, 16384, 4096, {}},
      {"gate_before_backward.16384x4096.bf16", kGateBeforeBackward, bf16, 16384, 4096, {}},
      {"gate_backward.16384x4096.f32", kGateBackward, f32, 16384, 4096, {}},
      {"gate_backward.16384x4096.bf16", kGateBackward, bf16, 16384, 4096, {}},
      Quantized("quantized.16384x4096.i8.static", dtype::i8, scale_kind::fixed),
      Quantized("quantized.16384x4096.i8.dynamic", dtype::i8, scale_kind::dynamic),
      Quantized("quantized.16384x4096.e4m3.static", dtype::e4m3, scale_kind::fixed),
      Quantized("quantized.16384x4096.e4m3.dynamic", dtype::e4m3, scale_kind::dynamic),
      {"cached_residual.8x4096.bf16", kCachedResidual, bf16, 8, 4096, {}},
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
  arena.UsePages(row.pages);
  switch (row.kind) {
    case kStream:
    case kInPlace: return RunStream(row, settings, arena);
    case kCold: return RunCold(row, settings, arena);
    case kBackward:
    case kBackwardCached: return RunBackward(row, settings, arena);
    case kCached: return RunCached(row, settings, arena);
    case kRope:
    case kRopeCached: return RunRope(row, settings, arena);
    case kCall:
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
    case kGateBeforeBackward:
    case kQuantized: return RunFused(row, settings, arena);
    case kTable: return RunTable(row, settings, arena);
    case kCachedResidual: return RunCachedResidual(row, settings, arena);
  }
  return {};
}

}  // namespace isonorm_cli::bench
