#include "accuracy/golden_norm.h"

#include <algorithm>
#include <cstring>

#include "golden/tensors.h"

namespace isonorm_test {

Type TypeOf(isonorm_cli::Type type) {
  if (type == isonorm_cli::Type::kBf16) return Type::kBf16;
  if (type == isonorm_cli::Type::kF16) return Type::kF16;
  return type == isonorm_cli::Type::kF64 ? Type::kF64 : Type::kF32;
}

Values ValuesOf(isonorm_cli::Type type, const std::vector<uint8_t>& bytes) {
  Values values;
  for (size_t i = 0; i < bytes.size(); i += isonorm_cli::SizeOf(type)) values.push_back(Get(TypeOf(type), &bytes[i]));
  return values;
}

void Total::Add(Ball term) {
  ++count_;
  nan_ = nan_ || std::isnan(term.value);
  anything_ = anything_ || term.anything();
  value_.Add(term.value);
  error_.Add(term.anything() ? 0 : term.error);
  size_.Add(term.anything() ? 0 : term.size());
}

Ball Total::Relative(const Compute& compute, double roundings) const {
  if (nan_) return {std::numeric_limits<long double>::quiet_NaN(), 0};
  if (anything_) return Anything();
  return Settled(value_.value(), error_.value() + 1.01L * static_cast<long double>(roundings) * compute.unit() * size_.value(),
                 true);
}

Ball Total::In(const Compute& compute, double roundings, bool squares) const {
  Ball sum = Relative(compute, roundings);
  if (sum.anything() || !std::isfinite(sum.value) || size_.value() == 0) return sum;
  sum.error += static_cast<long double>(count_) * compute.least();
  if (squares && sum.low() > compute.largest()) return {HUGE_VALL, 0};
  return size_.value() + sum.error > compute.largest() ? Anything() : sum;
}

Norm::Norm(const GoldenCase& of)
    : golden(of), compute(of.x == isonorm_cli::Type::kF64 ? Type::kF64 : Type::kF32), x_type(TypeOf(of.x)) {
  const isonorm_cli::Inputs in(of);
  x = ValuesOf(of.x, in.x);
  weight = ValuesOf(of.weight, in.weight);
  bias = ValuesOf(of.bias, in.bias);
  residual = ValuesOf(of.residual, in.residual);
  gate = ValuesOf(of.x, in.gate);
  dy = ValuesOf(of.dy, in.dy);
  dresidual = ValuesOf(of.dresidual, in.dresidual);
  ddx = ValuesOf(of.ddx, in.ddx);
  ddweight = ValuesOf(of.ddweight, in.ddweight);
  cos = ValuesOf(of.table, in.cos);
  sin = ValuesOf(of.table, in.sin);
  for (size_t i = 0; i < in.positions.size(); i += isonorm_cli::SizeOf(of.positions)) {
    int64_t position = 0;
    std::memcpy(&position, &in.positions[i], isonorm_cli::SizeOf(of.positions));  // little-endian
    positions.push_back(position);
  }
}

Ball Norm::Weight(int64_t col) const {
  if (!has(weight)) return {1, 0};
  const Ball w = Input(weight, col);
  const long double offset = RoundTo(compute.type(), golden.contract.weight_offset);
  return offset == 0 ? w : compute.Rounded(w + Ball{offset, 0});
}

Ball Norm::GateOf(int64_t index) const {
  const long double z = gate[static_cast<size_t>(index)];
  const long double f = golden.contract.gate_function == ISONORM_GATE_SILU ? SiluOf(z) : SigmoidOf(z);
  // f is 0 only where it is so exactly.
  return Settled(f, f == 0 ? 0 : kGateUnits * compute.unit() * std::fabs(f) + 2 * compute.least(), true);
}

Ball Norm::SlopeOf(int64_t index) const {
  const long double z = gate[static_cast<size_t>(index)];
  return Settled(golden.contract.gate_function == ISONORM_GATE_SILU ? SiluSlopeOf(z) : SigmoidSlopeOf(z),
                 kSlopeUnits * compute.unit(), true);
}

Ball Norm::Scaled(Ball c) const {
  if (golden.contract.scaled_rounding == ISONORM_ROUND_TO_X) return Stored(x_type, c);
  const bool to_weight = golden.contract.scaled_rounding == ISONORM_ROUND_TO_WEIGHT && has(weight);
  return to_weight ? Stored(TypeOf(golden.weight), c) : c;
}

Ball Norm::Affine(Ball scaled, int64_t col) const {
  if (!has(weight) && !has(bias)) return scaled;
  const Ball product = scaled * Weight(col);
  return compute.Rounded(has(bias) ? product + Input(bias, col) : product);
}

Ball Norm::Gated(Ball t, int64_t index, Ball* before) const {
  const bool rounds = golden.contract.scaled_rounding == ISONORM_ROUND_TO_X && (!has(weight) || golden.weight == golden.x);
  *before = rounds ? Stored(x_type, t) : t;
  return compute.Rounded(*before * GateOf(index));
}

void Norm::Rotate(int64_t index, bool back, Ball* head) const {
  if (golden.rope == 0) return;
  const int64_t token = index / golden.cols / golden.heads;
  const int64_t row = positions.empty() ? golden.position_offset + token : positions[static_cast<size_t>(token)];
  for (int64_t i = 0; i < golden.pairs; ++i) {
    const bool neighbours = golden.rope == ISONORM_ROPE_INTERLEAVED;
    Ball& re = head[neighbours ? 2 * i : i];
    Ball& im = head[neighbours ? 2 * i + 1 : golden.pairs + i];
    const Ball a = re, b = im, c = Input(cos, row * golden.pairs + i), s = Input(sin, row * golden.pairs + i);
    // A complex number times e^(i angle), or its conjugate.
    re = compute.Rounded(compute.Rounded(a * c) + (back ? b * s : -(b * s)));
    im = compute.Rounded(compute.Rounded(b * c) + (back ? -(a * s) : a * s));
  }
}

// Squares that overflow or vanish are taken again of scaled values: the relative errors stay. Others may be off by a smallest
// number each, and so may their mean.
Ball Group::MeanOfSquares(const Norm& norm, Ball sum) const {
  const Compute& compute = norm.compute;
  const long double n = static_cast<long double>(norm.window());
  if (sum.anything() || !std::isfinite(sum.value)) return sum;
  const bool f64 = compute.type() == Type::kF64, outside = norm.golden.contract.eps_place == ISONORM_EPS_OUTSIDE;
  const double tiny = f64 ? 0 : outside ? 0x1p-48 : 0x1p-120;
  const bool scaled = norm.golden.eps <= tiny && sum.value < (f64 ? 0x1p-901L : 0x1p-97L);
  if (largest > 0) sum.error += (n + n) * compute.least() * (scaled ? sum.value : 1);
  return {sum.value / n, sum.error / n};
}

Group::Group(const Norm& norm, int64_t first) {
  const Compute& compute = norm.compute;
  const auto cols = static_cast<size_t>(norm.group_cols()), window = static_cast<size_t>(norm.window());
  const isonorm_contract& contract = norm.golden.contract;
  for (int64_t i = first; i < first + norm.group_cols(); ++i) {
    Ball value = norm.Input(norm.x, i);
    if (norm.has(norm.residual)) {  // one addition of the machine's, which IEEE defines
      const long double x = value.value, residual = norm.residual[static_cast<size_t>(i)];
      value.value = norm.x_type == Type::kF64 ? static_cast<long double>(static_cast<double>(x) + static_cast<double>(residual))
                                              : static_cast<long double>(static_cast<float>(x) + static_cast<float>(residual));
      if (contract.sum_rounding == ISONORM_SUM_STORED) value.value = RoundTo(TypeOf(norm.golden.residual), value.value);
    }
    if (contract.gate_place == ISONORM_GATE_BEFORE) value = compute.Rounded(value * norm.GateOf(i));
    h.push_back(value);
  }
  for (size_t j = 0; j < window; ++j) {
    finite = finite && std::isfinite(h[j].value) && !h[j].anything();
    if (finite) largest = std::fmax(largest, std::fabs(h[j].value));
  }
  centred = h;
  if (norm.layer()) {
    Centre(norm);
  } else {
    Total total;
    for (size_t j = 0; j < window; ++j) total.Add(h[j] * h[j]);
    squares = MeanOfSquares(norm, total.Relative(compute, SumRoundings(norm.window()) + 1));
  }
  const bool f64 = compute.type() == Type::kF64;
  const Ball eps = {RoundTo(compute.type(), norm.golden.eps), 0};
  const auto rounded = [&](Ball a, int times) {  // of any exponent
    return a.anything() || !std::isfinite(a.value)
               ? a
               : Ball{a.value, a.error + 1.01L * static_cast<long double>(times) * compute.unit() * a.size()};
  };
  const auto root_of = [](Ball a) {
    if (a.anything() || !std::isfinite(a.value)) return a.anything() ? a : Ball{std::sqrt(a.value), 0};
    const long double value = std::sqrt(a.value), low = std::sqrt(std::fmax(0, a.low()));
    return Ball{value, std::fmax(std::sqrt(a.high()) - value, value - low)};
  };
  const auto inverse = [](Ball a) { return a.value == 0 && a.error == 0 ? Ball{HUGE_VALL, 0} : Ball{1, 0} / a; };
  root = rounded(root_of(squares), 1);
  rstd = contract.eps_place == ISONORM_EPS_OUTSIDE ? rounded(inverse(rounded(root + eps, 1)), 1)
                                                   : rounded(inverse(root_of(rounded(squares + eps, 1))), f64 ? 2 : 1);
  // Scaled values and products below the normal numbers are off by a smallest number, in units of the row's largest.
  const long double below = compute.least() * std::sqrt(static_cast<long double>(cols));
  for (size_t j = 0; j < cols; ++j) {
    Ball product = centred[j];
    if (norm.layer()) product = rounded(product, 1);
    product = compute.Rounded(product * rstd);
    if (product.size() > 0 && std::isfinite(product.value)) product.error += below;
    c.push_back(product);
  }
}

// The library subtracts a mean that is off by some `shift`, and then the mean of what is left, which takes the shift away
// again.
void Group::Centre(const Norm& norm) {
  const Compute& compute = norm.compute;
  const long double n = static_cast<long double>(h.size()), unit = 1.01L * compute.unit();
  const long double roundings = static_cast<long double>(SumRoundings(norm.group_cols())) + 1;
  Sum sum, size, error;
  for (const Ball& value : h) sum.Add(value.value), size.Add(std::fabs(value.value)), error.Add(value.error);
  mean = Settled(sum.value() / n, (error.value() + roundings * unit * size.value()) / n + compute.least(), finite);
  if (!finite) {  // an infinity or a NaN leaves nothing else
    const bool open = std::any_of(h.begin(), h.end(), [](Ball value) { return value.anything(); });
    squares = open ? Anything() : Ball{std::numeric_limits<long double>::quiet_NaN(), 0};
    return centred.assign(h.size(), squares);
  }
  if (size.value() == 0) return;
  Sum rest, spread, variance, reach, cross;
  for (Ball& value : centred) {
    // Once more, since the mean of a row far from 0 is itself rounded, and what is left of it would show in f64.
    value.value -= mean.value;
    rest.Add(value.value);
  }
  for (Ball& value : centred) {
    value.value -= rest.value() / n;
    const long double off = value.error + unit * (std::fabs(value.value) + mean.error) + compute.least() * largest;
    const long double most = std::fabs(value.value) + mean.error + off;
    value.error = off;
    spread.Add(off);
    variance.Add(value.value * value.value);
    reach.Add(most);
    cross.Add(2 * most * off);
  }
  // Of the mean of what is left.
  const long double drift = spread.value() / n + roundings * unit * reach.value() / n + compute.least();
  const long double square = variance.value() / n + mean.error * mean.error + cross.value() / n;
  const long double wrong = (roundings + 2) * unit * square + cross.value() / n + drift * (2 * mean.error + drift);
  squares = MeanOfSquares(norm, {variance.value(), wrong * n});
  for (Ball& value : centred) value.error += drift;
}

}  // namespace isonorm_test
