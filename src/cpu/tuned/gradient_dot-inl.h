// The dot product of the tuned backward: the sum over a row of (dy * weight) * (x * r), in the order of every sum.
#if defined(ISONORM_CPU_TUNED_GRADIENT_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ISONORM_CPU_TUNED_GRADIENT_DOT_INL_H_
#undef ISONORM_CPU_TUNED_GRADIENT_DOT_INL_H_
#else
#define ISONORM_CPU_TUNED_GRADIENT_DOT_INL_H_
#endif

#include "cpu/tuned/leaf_network-inl.h"

HWY_BEFORE_NAMESPACE();
namespace isonorm {
namespace HWY_NAMESPACE {

#if ISONORM_TUNED_LOOPS

// g * c, with g = dy * (weight + offset) and c = x * r, each rounded.
template <Layout kLayout, class Tx, class Tw, class Ty>
struct GradientProducts {
  const Tx* x;
  const Tw* w;
  const Ty* dy;
  float r, offset;

  template <class D>
  HWY_INLINE V<D> Fold(D d, V<D> a, V<D> x_of, V<D> w_of, V<D> dy_of) const {
    const auto g = std::is_same_v<Tw, None> ? dy_of : hn::Mul(dy_of, hn::Add(w_of, hn::Set(d, offset)));
    return Fma(g, hn::Mul(x_of, hn::Set(d, r)), a);
  }
  HWY_INLINE const Tw* WeightAt(size_t at) const { return std::is_same_v<Tw, None> ? w : w + at; }

  template <class D>
  HWY_INLINE V<D> Full(D d, V<D> a, size_t at) const {
    return Fold(d, a, LoadAs(d, x + at), LoadAs(d, WeightAt(at)), LoadAs(d, dy + at));
  }
  template <class D>
  HWY_INLINE V<D> Part(D d, V<D> a, size_t at, size_t n) const {
    return Fold(d, a, LoadAsPart(d, x + at, n), LoadAsPart(d, WeightAt(at), n), LoadAsPart(d, dy + at, n));
  }
  template <class D>
  HWY_INLINE void FoldDuo(D d, Duo<D>& a, size_t at) const {
    Fold(d, a, LoadDuo<kLayout>(d, x + at), LoadDuo<kLayout>(d, WeightAt(at)), LoadDuo<kLayout>(d, dy + at));
  }
  template <class D>
  HWY_INLINE void FoldDuoPart(D d, Duo<D>& a, size_t at, size_t n) const {
    Fold(d, a, LoadDuoPart<kLayout>(d, x + at, n), LoadDuoPart<kLayout>(d, WeightAt(at), n),
         LoadDuoPart<kLayout>(d, dy + at, n));
  }

 private:
  template <class D>
  HWY_INLINE void Fold(D d, Duo<D>& a, const Duo<D>& x_of, const Duo<D>& w_of, const Duo<D>& dy_of) const {
    a.a = Fold(d, a.a, x_of.a, w_of.a, dy_of.a);
    a.b = Fold(d, a.b, x_of.b, w_of.b, dy_of.b);
  }
};

// The part of the products from an element on.
template <class Products>
HWY_INLINE Products From(Products products, int64_t begin) {
  products.x += begin;
  products.w = products.WeightAt(static_cast<size_t>(begin));
  products.dy += begin;
  return products;
}

#if ISONORM_LEAF_NETWORK
template <bool kConstant = false, Layout kLayout, class Tx, class Tw, class Ty, class Beside>
HWY_INLINE V<Tag<float>> ProductsLeaf(const GradientProducts<kLayout, Tx, Tw, Ty>& leaf, size_t length, Beside&& beside) {
  if constexpr (kLayout == Layout::kEvenOdd) return EvenOddLeaf<kConstant>(Tag<float>(), leaf, length, beside);
  return LeafInRegisters<kConstant>(Tag<float>(), leaf, length, beside);
}
// Whose leaf vectors these are like.
template <Layout kLayout>
using LeafType = std::conditional_t<kLayout == Layout::kEvenOdd, Bf16, float>;
#endif

// beside() is called with every 64 elements. Not inlined: backward and what a rank sends share it.
template <class Tx, class Tw, class Ty, class Beside>
HWY_NOINLINE float GradientDot(const GradientProducts<kLayoutOf<Tx, Ty>, Tx, Tw, Ty>& products, const RowLeaves& row,
                               Beside beside) {
#if ISONORM_LEAF_NETWORK
  return RowTotal<LeafType<kLayoutOf<Tx, Ty>>>(
             row, [&](auto, int64_t begin, size_t n) HWY_ATTR { return ProductsLeaf(From(products, begin), n, beside); }) +
         0.0f;
#else
  LeafTree<float> tree;
  for (int64_t i = 0; i < row.count; ++i) {
    const int64_t begin = row.begin(i);
    tree.Push(LeafValue(Tag<float>(), From(products, begin), static_cast<size_t>(row.begin(i + 1) - begin)));
  }
  return tree.Total() + 0.0f;
#endif
}

#if ISONORM_LEAF_NETWORK
// Those of up to eight rows of 128 elements, a head of most models, which share a network; all eight dots are written. of(i):
// the products of row i. Such rows alone: without a constant length this is no faster than row by row.
constexpr size_t kHead = 2 * kLanes;
template <class T, class Of>
HWY_INLINE void HeadDots(int rows, const RowLeaves& row, const Of& of, float* dots) {
  const auto leaf = [&](int64_t i, int64_t, size_t, float* into) HWY_ATTR {
    const Tag<float> d;
    hn::Store(ProductsLeaf<true>(of(i), kHead, Nothing()), d, into);
  };
  NarrowRowTotals<1, T, 1>(rows, row, leaf, {dots});
  for (int i = 0; i < rows; ++i) dots[i] += 0.0f;
}

// Those of two rows of longest leaves, leaf by leaf, so that each line of the weight is read once.
template <Layout kLayout, class Tx, class Tw, class Ty>
HWY_INLINE void GradientDots(const GradientProducts<kLayout, Tx, Tw, Ty>* products, const RowLeaves& row, float* dots) {
  const Tag<float> d;
  constexpr size_t kWidth = hn::MaxLanes(Tag<float>());
  HWY_ALIGN float vectors[2][8 * kWidth];
  LeafTree<float> tree[2];
  for (int64_t first = 0; first < row.count; first += 8) {  // such leaves come in eights
    HWY_UNROLL(1)
    for (int64_t i = 0; i < 8; ++i) {
      HWY_UNROLL(1)
      for (size_t k = 0; k < 2; ++k) {
        const auto leaf = From(products[k], (first + i) * kMaxLeaf);
        hn::Store(ProductsLeaf<true>(leaf, kMaxLeaf, Nothing()), d, vectors[k] + static_cast<size_t>(i) * kWidth);
      }
    }
    for (size_t k = 0; k < 2; ++k) tree[k].Push(FoldLeaves<LeafType<kLayout>>(vectors[k], row.count));
  }
  for (size_t k = 0; k < 2; ++k) dots[k] = tree[k].Total() + 0.0f;
}
#endif

#endif  // ISONORM_TUNED_LOOPS

}  // namespace HWY_NAMESPACE
}  // namespace isonorm
HWY_AFTER_NAMESPACE();

#endif  // ISONORM_CPU_TUNED_GRADIENT_DOT_INL_H_
