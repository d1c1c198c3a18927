// What leaves the norm of a golden case, and its gradients.
#include "accuracy/golden_norm.h"

namespace isonorm_test {
namespace {

constexpr Ball kZero = {0, 0};

// A mean over the group of what `term` gives.
template <class Term>
Ball MeanOf(const Norm& norm, Term term) {
  Total total;
  for (int64_t j = 0; j < norm.group_cols(); ++j) total.Add(term(static_cast<size_t>(j)));
  const Ball sum = total.In(norm.compute, SumRoundings(norm.group_cols()));
  return norm.compute.Rounded(sum / Ball{static_cast<long double>(norm.group_cols()), 0});
}

}  // namespace

Balls ForwardRow(const Norm& norm, const Group& group, int64_t first) {
  Balls y;
  for (size_t j = 0; j < group.c.size(); ++j) {
    const int64_t i = first + static_cast<int64_t>(j);
    Ball t = norm.Affine(norm.Scaled(group.c[j]), i % norm.golden.cols), before;
    if (norm.golden.contract.gate_place == ISONORM_GATE_AFTER) t = norm.Gated(t, i, &before);
    const bool rounds = norm.golden.rope != 0 && norm.golden.contract.rotation_rounding == ISONORM_ROUND_TO_X;
    y.push_back(rounds ? Stored(norm.x_type, t) : t);
  }
  norm.Rotate(first, false, y.data());
  return y;
}

GroupGradients BackwardRow(const Norm& norm, const Group& group, int64_t first) {
  const Compute& compute = norm.compute;
  const isonorm_contract& contract = norm.golden.contract;
  const size_t cols = group.c.size();
  GroupGradients out;
  Balls dy;
  for (size_t j = 0; j < cols; ++j) dy.push_back(norm.Input(norm.dy, first + static_cast<int64_t>(j)));
  norm.Rotate(first, true, dy.data());
  Total product_sum, sum;
  Balls g;
  for (size_t j = 0; j < cols; ++j) {
    const int64_t i = first + static_cast<int64_t>(j), col = i % norm.golden.cols;
    if (contract.gate_place == ISONORM_GATE_AFTER) {
      Ball before;
      norm.Gated(norm.Affine(norm.Scaled(group.c[j]), col), i, &before);
      out.dgate.push_back(compute.Rounded(compute.Rounded(dy[j] * before) * norm.SlopeOf(i)));
      dy[j] = compute.Rounded(dy[j] * norm.GateOf(i));
    }
    g.push_back(norm.has(norm.weight) ? compute.Rounded(dy[j] * norm.Weight(col)) : dy[j]);
    out.products.push_back(g[j] * group.c[j]);
    product_sum.Add(out.products[j]);
    sum.Add(g[j]);
    out.dweight.push_back(dy[j] * norm.Scaled(group.c[j]));
    out.dbias.push_back(dy[j]);
  }
  out.gradients = g;
  const double roundings = SumRoundings(norm.group_cols());
  const Ball n = {static_cast<long double>(cols), 0}, window = {static_cast<long double>(norm.window()), 0};
  Ball factor = compute.Rounded(product_sum.In(compute, roundings) / window);
  if (contract.eps_place == ISONORM_EPS_OUTSIDE) {
    const Ball product = group.root * group.rstd;
    const long double rounding = 1.01L * compute.unit() * product.size();
    factor = product.value == 0 && product.error == 0
                 ? kZero
                 : compute.Rounded(factor / Settled(product.value, product.error + rounding, !product.anything()));
  }
  const Ball mean = compute.Rounded(sum.In(compute, roundings) / n);
  for (size_t j = 0; j < cols; ++j) {
    const int64_t i = first + static_cast<int64_t>(j);
    Ball inner = norm.layer() ? compute.Rounded(g[j] - mean) : g[j];
    if (static_cast<int64_t>(j) < norm.window()) inner = compute.Rounded(inner - group.c[j] * factor);
    Ball v = compute.Rounded(group.rstd * inner, 2);  // of a scaled row, the power of two follows
    if (contract.gate_place == ISONORM_GATE_BEFORE) {
      out.dgate.push_back(compute.Rounded(compute.Rounded(v * norm.Input(norm.x, i)) * norm.SlopeOf(i)));
      v = compute.Rounded(v * norm.GateOf(i));
    }
    out.dx.push_back(norm.has(norm.dresidual) ? compute.Rounded(v + norm.Input(norm.dresidual, i)) : v);
  }
  return out;
}

GroupDoubles DoubleBackwardRow(const Norm& norm, const Group& group, int64_t first) {
  const Compute& compute = norm.compute;
  const size_t cols = group.c.size();
  Balls dy, g, p, t, dd;
  for (size_t j = 0; j < cols; ++j) {
    const int64_t i = first + static_cast<int64_t>(j), col = i % norm.golden.cols;
    dy.push_back(norm.Input(norm.dy, i));
    g.push_back(norm.has(norm.weight) ? compute.Rounded(dy[j] * norm.Weight(col)) : dy[j]);
    // Of a scaled row the power of two comes in two halves, around r.
    p.push_back(norm.has(norm.ddx) ? compute.Rounded(norm.Input(norm.ddx, i) * group.rstd, 3) : kZero);
    dd.push_back(norm.has(norm.ddweight) ? norm.Input(norm.ddweight, col) : kZero);
    t.push_back(compute.Rounded(dd[j] * dy[j]));
  }
  const Balls& c = group.c;
  const Ball a = MeanOf(norm, [&](size_t j) { return g[j] * c[j]; }), b = MeanOf(norm, [&](size_t j) { return p[j] * c[j]; }),
             q = MeanOf(norm, [&](size_t j) { return p[j] * g[j]; }), tau = MeanOf(norm, [&](size_t j) { return t[j] * c[j]; });
  const Ball s = compute.Rounded(tau + compute.Rounded(q - Ball{3, 0} * compute.Rounded(a * b)));
  GroupDoubles out;
  for (size_t j = 0; j < cols; ++j) {
    const int64_t col = (first + static_cast<int64_t>(j)) % norm.golden.cols;
    Ball v = compute.Rounded(t[j] - a * p[j]);
    v = compute.Rounded(v - b * g[j]);
    v = compute.Rounded(v - c[j] * s);
    out.dx.push_back(compute.Rounded(v * group.rstd, 3));
    const Ball k = compute.Rounded(p[j] - c[j] * b);
    const Ball weighted = norm.has(norm.weight) ? compute.Rounded(norm.Weight(col) * k) : k;
    out.ddy.push_back(compute.Rounded(dd[j] * norm.Scaled(c[j]) + weighted));
    out.dweight.push_back(dy[j] * k);
  }
  return out;
}

}  // namespace isonorm_test
