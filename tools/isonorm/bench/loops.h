// The loops that isonorm is measured against, compiled for several instruction sets and chosen at run time.
#pragma once

#include <cstddef>
#include <span>

namespace isonorm_cli::bench {

// Tensors that are only moved: every input is read and every output written, line by line side by side.
struct Streams {
  const void* in[3];
  void* out[2];
  int ins, outs;
  size_t in_bytes, out_bytes;  // of each; the outputs are as large as the inputs, or half as large
};

// What the memory system allows: every loop runs over `bytes` bytes, a multiple of 256, from 64-byte aligned pointers.
struct LimitLoops {
  void (*copy)(const void* from, void* to, size_t bytes);
  void (*copy_stream)(const void* from, void* to, size_t bytes);  // non-temporal stores
  void (*read)(const void* from, size_t bytes);
  void (*modify)(void* data, size_t bytes);                               // read, change, write back
  void (*combine)(const void* a, const void* b, void* to, size_t bytes);  // two reads, one write
  void (*combine_stream)(const void* a, const void* b, void* to, size_t bytes);
  void (*move)(const Streams& streams);  // one of: 1 input and 1 output, 2 and 1, 2 and 2, 3 and 2
  void (*move_stream)(const Streams& streams);
  // What a norm has to move: each row of `row_bytes` of 1 or 2 inputs is read whole, and again while its output is written;
  // with non-temporal stores, or over the input. The second fetches half of each line of the next row in either sweep.
  void (*move_rows)(const Streams& streams, size_t row_bytes);
  void (*move_rows_fetching)(const Streams& streams, size_t row_bytes);
};

// An RMSNorm with no promise about the order of its sum: y = x * rstd * weight, rounded as isonorm rounds at the store.
using NormLoop = void (*)(const void* x, const void* weight, void* y, size_t rows, size_t cols, float eps);

struct Peer {
  const char* name;
  NormLoop run;
  size_t only_cols;  // the one width it is written for, 0: any multiple of 256
};

struct Loops {
  const char* target;
  LimitLoops limits;
  std::span<const Peer> peers_f32;
  std::span<const Peer> peers_bf16;         // bf16 x, weight and y
  std::span<const Peer> peers_bf16_f32;     // a weight of f32
  std::span<const Peer> peers_bf16_offset;  // 1 is added to the weight
};

// The best of the instruction sets that this CPU has.
const Loops& BestLoops();

}  // namespace isonorm_cli::bench
