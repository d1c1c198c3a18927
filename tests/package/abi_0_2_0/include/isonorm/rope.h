/* Rotary position embedding after a norm: heads of q and k normalised and rotated in one pass. isonorm.h includes it. */
#ifndef ISONORM_ROPE_H_
#define ISONORM_ROPE_H_

#include <isonorm/types.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* style: which two values of a head turn together. With R = 2 * half, half the second size of the tables:
 *     half          i and i + half, as rotate_half of Hugging Face's Llama, Qwen3, Gemma 3 and of GPT-NeoX
 *     interleaved   2 * i and 2 * i + 1, as GPT-J, the code of the paper, and Meta's own Llama */
enum { ISONORM_ROPE_HALF = 1, ISONORM_ROPE_INTERLEAVED = 2 };

/* The rotation of Su et al. 2021 (RoFormer). A pair (a, b) of what leaves the norm, at position p, becomes
 *     y_a = a * cos[p][i] - b * sin[p][i],   y_b = b * cos[p][i] + a * sin[p][i]
 * and the values from R on pass through. Backward turns the gradients the other way, before all else. docs/numerics.md has
 * every rounding; rotation_rounding of the contract says what is rounded between norm and rotation.
 *
 * A head is a group of the norm: either x is [..., tokens, heads, head_dim] with a weight of [head_dim] that all heads share;
 * or x is [..., tokens, heads * head_dim] with groups = heads and a weight of [heads * head_dim], which is [heads, head_dim] in
 * memory. Rotation stays within the head, whose size is at most 512. Of x laid out as [batch, heads, tokens, head_dim] pass the
 * view [batch, tokens, heads, head_dim] by its strides. */
typedef struct isonorm_rope {
  size_t struct_size;        /* sizeof(isonorm_rope) */
  int32_t style;             /* ISONORM_ROPE_HALF or ISONORM_ROPE_INTERLEAVED */
  int32_t position_dim;      /* without positions: the leading dimension of x that counts tokens; else 0 */
  const isonorm_tensor* cos; /* [table positions, R / 2], f32 or x's type; R is at most head_dim. Rows may be strided: of a
                                      table with every value twice, as Hugging Face makes it, pass the first half of each row */
  const isonorm_tensor* sin; /* as cos */
  const isonorm_tensor* positions; /* ISONORM_I32 or ISONORM_I64: rows of the tables, one for each index of the first leading
                                      dimensions of x, whose sizes it has; the dimensions after them, such as heads, share it.
                                      Null: position_offset + the index along position_dim */
  int64_t position_offset;         /* without positions: that of the first token; else 0 */
} isonorm_rope;

#ifdef __cplusplus
}
#endif

#endif /* ISONORM_ROPE_H_ */
