#include "accuracy/oracle.h"

namespace isonorm_test {
namespace {

long double GateOf(const isonorm_contract& contract, long double z) {
  return contract.gate_function == ISONORM_GATE_SILU ? SiluOf(z) : SigmoidOf(z);
}

long double GateSlopeOf(const isonorm_contract& contract, long double z) {
  return contract.gate_function == ISONORM_GATE_SILU ? SiluSlopeOf(z) : SigmoidSlopeOf(z);
}

constexpr long double kOne = 1;

// The row that is normalised: x, x + residual as stored or kept, or x * f(gate).
Values SourceOf(const Problem& problem, const Values& x, const Values& gate) {
  Values v = x;
  for (size_t i = 0; i < v.size(); ++i) {
    if (problem.residual.present()) {
      const long double sum = v[i] + problem.residual[static_cast<int64_t>(i)];
      const bool f64 = problem.x.type() == Type::kF64;
      v[i] = problem.contract.sum_rounding == ISONORM_SUM_KEPT
                 ? sum
                 : RoundTo(problem.residual.type(), RoundTo(f64 ? Type::kF64 : Type::kF32, sum));
    }
    if (problem.contract.gate_place == ISONORM_GATE_BEFORE) v[i] *= GateOf(problem.contract, gate[i]);
  }
  return v;
}

struct Group {
  Values c;                        // normalised values
  long double rstd = 0, root = 0;  // root: sqrt of the statistic
};

Group Normalise(const Problem& problem, const long double* v) {
  const auto cols = static_cast<size_t>(problem.group_cols()), window = static_cast<size_t>(problem.statistic_cols());
  const bool f64 = problem.x.type() == Type::kF64;
  const long double eps = RoundTo(f64 ? Type::kF64 : Type::kF32, problem.eps);
  Group group;
  group.c.assign(v, v + cols);
  if (problem.contract.statistic == ISONORM_STATISTIC_LAYER) {
    // Twice, since the mean of a row far from 0 is itself rounded, and what is left of it would show in f64.
    for (int turn = 0; turn < 2; ++turn) {
      Sum sum;
      for (const long double value : group.c) sum.Add(value);
      for (long double& value : group.c) value -= sum.value() / static_cast<long double>(cols);
    }
  }
  Sum squares;
  for (size_t j = 0; j < window; ++j) squares.Add(group.c[j] * group.c[j]);
  const long double mean_square = squares.value() / static_cast<long double>(window);
  group.root = std::sqrt(mean_square);
  group.rstd =
      problem.contract.eps_place == ISONORM_EPS_OUTSIDE ? kOne / (group.root + eps) : kOne / std::sqrt(mean_square + eps);
  for (long double& value : group.c) value *= group.rstd;
  return group;
}

Values WeightOf(const Problem& problem, const Values& weight) {
  Values w(static_cast<size_t>(problem.cols()), kOne);
  const long double offset = problem.contract.weight_offset;
  for (size_t j = 0; j < weight.size(); ++j) w[j] = weight[j] + offset;
  return w;
}

// What a rotation is: a pair as a complex number, times e^(i angle), or times its conjugate. kSizes: of the terms of both.
enum class Turn { kForward, kBack, kSizes };
void Rotate(const Problem& problem, size_t row, Turn turn, long double* head) {
  if (!problem.cos.present()) return;
  const int64_t half = problem.cos.cols(), at = (problem.first_position + static_cast<int64_t>(row)) * half;
  for (int64_t i = 0; i < half; ++i) {
    const bool pairs = problem.style == ISONORM_ROPE_INTERLEAVED;
    long double &re = head[pairs ? 2 * i : i], &im = head[pairs ? 2 * i + 1 : half + i];
    const long double x = re, y = im, c = problem.cos[at + i];
    const long double s = turn == Turn::kBack ? -problem.sin[at + i] : problem.sin[at + i];
    re = turn == Turn::kSizes ? std::fabs(x * c) + std::fabs(y * s) : x * c - y * s;
    im = turn == Turn::kSizes ? std::fabs(x * s) + std::fabs(y * c) : x * s + y * c;
  }
}

// dx of one group before the gate and dresidual, and the size of its terms.
void Differentiate(const Problem& problem, const Group& group, const Values& g, const Values& g_size, long double* dx,
                   long double* terms) {
  const bool layer = problem.contract.statistic == ISONORM_STATISTIC_LAYER;
  const size_t cols = g.size(), window = static_cast<size_t>(problem.statistic_cols());
  Sum product, product_size, sum, sum_size;
  for (size_t j = 0; j < cols; ++j) {
    product.Add(g[j] * group.c[j]);
    product_size.Add(g_size[j] * std::fabs(group.c[j]));
    sum.Add(g[j]);
    sum_size.Add(g_size[j]);
  }
  long double factor = kOne / static_cast<long double>(window);
  if (problem.contract.eps_place == ISONORM_EPS_OUTSIDE) factor = group.root == 0 ? 0 : factor / (group.root * group.rstd);
  const long double mean = layer ? sum.value() / static_cast<long double>(cols) : 0;
  const long double mean_size = layer ? sum_size.value() / static_cast<long double>(cols) : 0;
  for (size_t j = 0; j < cols; ++j) {
    const long double c = j < window ? group.c[j] : 0;
    dx[j] = group.rstd * (g[j] - mean - c * product.value() * factor);
    const long double product_mean = product_size.value() * factor;
    terms[j] = group.rstd * (g_size[j] + std::fabs(c) * product_mean);
    if (layer) terms[j] += group.rstd * (mean_size + (std::fabs(c) + 1) * sum_size.value() * factor + product_mean);
  }
}

}  // namespace

long double SiluOf(long double z) {
  if (z == -HUGE_VALL) return -0.0L;
  return z >= 0 ? z / (1 + std::exp(-z)) : z * std::exp(z) / (1 + std::exp(z));
}

long double SigmoidOf(long double z) {
  const long double e = std::exp(-std::fabs(z));  // never overflows
  return (z >= 0 ? 1 : e) / (1 + e);
}

long double SiluSlopeOf(long double z) { return std::isinf(z) ? (z > 0 ? 1 : 0) : SigmoidOf(z) * (1 + z * SigmoidOf(-z)); }

long double SigmoidSlopeOf(long double z) { return SigmoidOf(z) * SigmoidOf(-z); }

Answer Solve(const Problem& problem) {
  const Values x = problem.x.values(), gate = problem.gate.values(), bias = problem.bias.values();
  const Values v = SourceOf(problem, x, gate), w = WeightOf(problem, problem.weight.values());
  const Values dresidual = problem.dresidual.values();
  Values dy = problem.dy.values(), dy_size = dy;
  for (long double& size : dy_size) size = std::fabs(size);
  const int32_t place = problem.contract.gate_place;
  // An error of LayerNorm's mean moves every c by a part of the row's rms, which is 1, however small that c is.
  const long double shift = problem.contract.statistic == ISONORM_STATISTIC_LAYER ? 1 : 0;
  const auto cols = static_cast<size_t>(problem.cols()), group_cols = static_cast<size_t>(problem.group_cols());
  Answer answer;
  for (Values* each : {&answer.y, &answer.y_terms}) each->resize(v.size());
  std::vector<Sum> dweight(cols), dbias(cols), dweight_size(cols), dbias_size(cols);
  if (!dy.empty()) answer.dx.resize(v.size()), answer.dx_terms.resize(v.size());
  if (!dy.empty() && !gate.empty()) answer.dgate.resize(v.size()), answer.dgate_terms.resize(v.size());
  for (size_t first = 0; first < v.size(); first += group_cols) {
    const Group group = Normalise(problem, &v[first]);
    answer.rstd.push_back(group.rstd);
    if (!dy.empty()) Rotate(problem, first / cols, Turn::kBack, &dy[first]);
    if (!dy.empty()) Rotate(problem, first / cols, Turn::kSizes, &dy_size[first]);
    Values g(group_cols), g_size(group_cols);
    for (size_t j = 0; j < group_cols; ++j) {
      const size_t i = first + j, col = i % cols;
      const long double t = group.c[j] * w[col] + (bias.empty() ? 0 : bias[col]);
      const long double t_size =
          (std::fabs(group.c[j]) + shift) * std::fabs(w[col]) + (bias.empty() ? 0 : std::fabs(bias[col]));
      const long double gain = place == ISONORM_GATE_AFTER ? GateOf(problem.contract, gate[i]) : 1;
      answer.y[i] = t * gain;
      answer.y_terms[i] = t_size * std::fabs(gain);
      if (dy.empty()) continue;
      g[j] = dy[i] * gain * w[col];
      g_size[j] = dy_size[i] * std::fabs(gain * w[col]);
      dweight[col].Add(dy[i] * gain * group.c[j]);
      dweight_size[col].Add(dy_size[i] * std::fabs(gain) * (std::fabs(group.c[j]) + shift));
      dbias[col].Add(dy[i] * gain);
      dbias_size[col].Add(dy_size[i] * std::fabs(gain));
      if (place == ISONORM_GATE_AFTER) {
        answer.dgate[i] = dy[i] * t * GateSlopeOf(problem.contract, gate[i]);
        answer.dgate_terms[i] = std::fabs(dy[i]) * t_size;
      }
    }
    Rotate(problem, first / cols, Turn::kForward, &answer.y[first]);
    Rotate(problem, first / cols, Turn::kSizes, &answer.y_terms[first]);
    if (dy.empty()) continue;
    Differentiate(problem, group, g, g_size, &answer.dx[first], &answer.dx_terms[first]);
    for (size_t i = first; i < first + group_cols; ++i) {
      if (place == ISONORM_GATE_BEFORE) {
        answer.dgate[i] = answer.dx[i] * x[i] * GateSlopeOf(problem.contract, gate[i]);
        answer.dgate_terms[i] = answer.dx_terms[i] * std::fabs(x[i]);
        answer.dx[i] *= GateOf(problem.contract, gate[i]);
        answer.dx_terms[i] *= std::fabs(GateOf(problem.contract, gate[i]));
      }
      if (!dresidual.empty()) answer.dx[i] += dresidual[i];
      if (!dresidual.empty()) answer.dx_terms[i] += std::fabs(dresidual[i]);
    }
  }
  for (size_t j = 0; j < cols && !dy.empty(); ++j) {
    answer.dweight.push_back(dweight[j].value());
    answer.dweight_terms.push_back(dweight_size[j].value());
    answer.dbias.push_back(dbias[j].value());
    answer.dbias_terms.push_back(dbias_size[j].value());
  }
  return answer;
}

long double Loss(const Problem& problem, const Values& x, const Values& weight, const Values& bias, const Values& gate) {
  const Values v = SourceOf(problem, x, gate), w = WeightOf(problem, weight);
  const auto cols = static_cast<size_t>(problem.cols()), group_cols = static_cast<size_t>(problem.group_cols());
  Sum loss;
  for (size_t first = 0; first < v.size(); first += group_cols) {
    const Group group = Normalise(problem, &v[first]);
    Values y(group_cols);
    for (size_t i = first; i < first + group_cols; ++i) {
      y[i - first] = group.c[i - first] * w[i % cols] + (bias.empty() ? 0 : bias[i % cols]);
    }
    Rotate(problem, first / cols, Turn::kForward, y.data());
    for (size_t i = first; i < first + group_cols; ++i) {
      const long double t = y[i - first];
      const long double gain = problem.contract.gate_place == ISONORM_GATE_AFTER ? GateOf(problem.contract, gate[i]) : 1;
      loss.Add(problem.dy[static_cast<int64_t>(i)] * t * gain);
      if (problem.dresidual.present()) loss.Add(problem.dresidual[static_cast<int64_t>(i)] * v[i]);
    }
  }
  return loss.value();
}

}  // namespace isonorm_test
