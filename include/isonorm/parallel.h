/* What several processes compute together: rows whose columns are spread over ranks (tensor parallel), and gradients of rows
 * that were computed apart (data parallel). Nothing here communicates: these functions compute what is sent and use what was
 * received. The result has the same bits as one call of isonorm_forward or isonorm_backward on everything.
 *
 * isonorm.h includes this header; its conventions hold here too. docs/parallel.md has the protocol at length.
 */
#ifndef ISONORM_PARALLEL_H_
#define ISONORM_PARALLEL_H_

#include <isonorm/isonorm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------- tensor parallel: shards
 *
 * Each of `ranks` ranks holds the same number of neighbouring columns of every row, rank 0 the first ones. Its x, weight, y and
 * all other tensors in the args below are those of its columns alone; a row of the norm is that of all ranks together.
 *
 *   forward                                                    backward
 *     int32_t round = 0;                                         isonorm_backward_partial(&contract, eps, &args, &shard);
 *     do {                                                       all_gather(shard.partial, shard.gathered);
 *       isonorm_forward_partial(&contract, eps, &args, &shard,   isonorm_backward_finish(&contract, eps, &args, &shard);
 *                               round);
 *       all_gather(shard.partial, shard.gathered);
 *       isonorm_forward_finish(&contract, eps, &args, &shard,
 *                              &round);
 *     } while (round != 0);
 *
 * All ranks leave the loop in the same turn: what finish says depends on the contract, eps and the gathered numbers alone,
 * which are the same on all ranks, whatever CPUs they have. RMS takes one turn, LayerNorm two, and a call in which the squares
 * of some row overflow or vanish two or three more. Every rank writes its outputs in the last turn, and only then; until then
 * inputs must stay as they are.
 *
 * A row may be split among 1, 2, 4, ... isonorm_max_ranks(columns of the whole row) ranks. Any other number is
 * ISONORM_ERROR_SPLIT. There are no groups and no window: groups that lie whole on a rank need no exchange (isonorm_forward
 * does it), and a group that spans some of the ranks is a row that those ranks share. */

typedef struct isonorm_shard {
  size_t struct_size;              /* sizeof(isonorm_shard) */
  int64_t ranks;                   /* how many share each row */
  const isonorm_tensor* partial;   /* out of ..._partial: [rows, values], what this rank sends; rows is the product of x's
                                      leading dimensions, values is 1 for RMS and 2 for LayerNorm; compute type */
  const isonorm_tensor* gathered;  /* in of ..._finish: [ranks, rows, values], what all ranks sent, in rank order; compute type.
                                      `partial` may be a slice of it. backward_finish without dx and dgate may have null */
  const isonorm_tensor* statistic; /* [rows, 4], compute type: written by forward_finish and read by all the others; the same
                                      on all ranks. Backward needs it as the last forward_finish left it:
                                      sum of v (LayerNorm) | sum of squares | sum of v - mean (LayerNorm) | 0, or where the row
                                      was scaled (docs/numerics.md) its largest |v|, the sums being those of scaled values */
} isonorm_shard;

/* The most ranks among which rows of so many columns can be split; every smaller power of two will do too. cols divisible by
 * 8 * ranks, and as many leaves of the sum as ranks (docs/numerics.md): 2 from 129 columns on, 4 from 257, 8 from 513, 16 from
 * 4097, 32 from 8193 and so on. 1 for any other positive cols, else 0. */
ISONORM_API int64_t isonorm_max_ranks(int64_t cols);

/* args as for isonorm_forward, of this rank's columns; the same for both functions. partial reads the inputs and writes
 * shard.partial alone. finish reads shard.gathered, updates shard.statistic and sets *round: to 0 when it has written y,
 * residual_out, mean and rstd (the last two are the same on all ranks), else to the round that comes next, having written
 * nothing else. A wrong argument is found by partial, before anything is exchanged, but for a fault of shard.gathered or of
 * round. */
ISONORM_API isonorm_status isonorm_forward_partial(const isonorm_contract* contract, double eps,
                                                   const isonorm_forward_args* args, const isonorm_shard* shard, int32_t round);
ISONORM_API isonorm_status isonorm_forward_finish(const isonorm_contract* contract, double eps,
                                                  const isonorm_forward_args* args, const isonorm_shard* shard, int32_t* round);

/* args as for isonorm_backward, of this rank's columns; mean and rstd are null, since shard.statistic takes their place.
 * dweight and dbias are whole: those of this rank's columns need nothing from other ranks. The workspace, which partial does
 * not need, is as large as isonorm_backward_workspace() says for the same args. */
ISONORM_API isonorm_status isonorm_backward_partial(const isonorm_contract* contract, double eps,
                                                    const isonorm_backward_args* args, const isonorm_shard* shard);
ISONORM_API isonorm_status isonorm_backward_finish(const isonorm_contract* contract, double eps,
                                                   const isonorm_backward_args* args, const isonorm_shard* shard);

/* ------------------------------------------------------------------------------------------------ data parallel: parts of rows
 *
 * dweight and dbias are sums over rows, in an order that is part of the definition. Where the rows of a call are computed
 * apart, on several ranks or one micro-batch after another, in runs of part_rows = 32 * 2^k rows in row order (the last one may
 * be shorter), each run's isonorm_backward writes its sum unrounded, into dweight and dbias of the compute type, and this
 * function makes of them what one call over all rows would have written. */

typedef struct isonorm_combine_args {
  size_t struct_size;               /* sizeof(isonorm_combine_args) */
  const isonorm_tensor* parts;      /* [parts, cols] in row order: f32, or f64 where the data are */
  const isonorm_tensor* gradient;   /* out: [cols], of the parameter's type: any but f64 for parts of f32, f64 for f64 */
  int64_t rows;                     /* rows behind all parts together; parts is rows / part_rows, rounded up */
  int64_t part_rows;                /* rows behind each part but the last, which has the rest: 32, 64, 128, ... */
  uint32_t flags;                   /* 0, or ISONORM_ACCUMULATE: add to what gradient holds, in the compute type */
  uint32_t reserved;                /* 0 */
  void* stream;                     /* as in forward */
  const isonorm_executor* executor; /* as in forward */
} isonorm_combine_args;

/* A gradient of the compute type is again a part, if `rows` are: parts may be combined level by level. */
ISONORM_API isonorm_status isonorm_combine_gradients(const isonorm_combine_args* args);

#ifdef __cplusplus
}
#endif

#endif /* ISONORM_PARALLEL_H_ */
