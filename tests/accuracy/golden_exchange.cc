#include "accuracy/golden_exchange.h"

#include <algorithm>

namespace isonorm_test {
namespace {

// A value times a power of two that leaves it a normal number, or not.
Ball Shifted(const Compute& compute, Ball value, int exponent) {
  if (value.anything() || !std::isfinite(value.value)) return value;
  return {std::ldexp(value.value, exponent), std::ldexp(value.error, exponent) + compute.least()};
}

}  // namespace

Exchange::Row Exchange::SumsOf(const Balls& h, Ball mean) const {
  const Compute& compute = norm_.compute;
  const double roundings = SumRoundings(norm_.golden.cols);
  const size_t ranks = static_cast<size_t>(norm_.golden.ranks), own = h.size() / ranks;
  Row row;
  Total all, squares;
  for (const Ball& value : h) all.Add(value);
  // Where the sum itself may overflow, so may the mean.
  if (norm_.layer() && all.In(compute, roundings).anything()) mean = Anything();
  for (size_t rank = 0; rank < ranks; ++rank) {
    Total sum, square, rest;
    for (size_t j = rank * own; j < (rank + 1) * own; ++j) {
      const Ball d = norm_.layer() ? compute.Rounded(h[j] - mean) : h[j];
      sum.Add(h[j]);
      square.Add(d * d);
      rest.Add(d);
      squares.Add(d * d);
    }
    row.mean.push_back({sum.In(compute, roundings), {0, 0}});
    row.squares.push_back({square.In(compute, roundings, true), rest.In(compute, roundings)});
  }
  row.total = squares.In(compute, roundings, true);
  row.average = all.In(compute, roundings);
  return row;
}

void Exchange::AddForward(const Group& group) {
  if (norm_.golden.ranks == 0) return;
  const Ball natural = {[&] {
                          Sum sum;
                          for (const Ball& value : group.h) sum.Add(value.value);
                          return sum.value();
                        }(),
                        0};
  forward_.push_back(SumsOf(group.h, group.finite ? group.mean : natural));
  Row scaled;
  if (group.finite && group.largest > 0) {
    const int exponent = -std::ilogb(group.largest);
    Balls h;
    for (const Ball& value : group.h) h.push_back(Shifted(norm_.compute, value, exponent));
    scaled = SumsOf(h, Shifted(norm_.compute, group.mean, exponent));
  }
  scaled_.push_back(scaled);
  const size_t ranks = static_cast<size_t>(norm_.golden.ranks), own = group.h.size() / ranks;
  std::vector<std::array<Ball, 2>> largest(ranks, {Ball{0, 0}, Ball{0, 0}});
  for (size_t j = 0; j < group.h.size(); ++j) {
    const Ball value = group.h[j];
    Ball& most = largest[j / own][0];
    const bool finite = std::isfinite(value.value);
    if (!finite || std::fabs(value.value) > most.value) most = {finite ? std::fabs(value.value) : HUGE_VALL, value.error};
  }
  largest_.push_back(largest);
}

void Exchange::AddBackward(const GroupGradients& gradients) {
  if (norm_.golden.ranks == 0) return;
  const double roundings = SumRoundings(norm_.golden.cols);
  const size_t ranks = static_cast<size_t>(norm_.golden.ranks), own = gradients.products.size() / ranks;
  std::vector<std::array<Ball, 2>> sums;
  for (size_t rank = 0; rank < ranks; ++rank) {
    Total products, plain;
    for (size_t j = rank * own; j < (rank + 1) * own; ++j) {
      products.Add(gradients.products[j]);
      plain.Add(gradients.gradients[j]);
    }
    sums.push_back({products.In(norm_.compute, roundings), plain.In(norm_.compute, roundings)});
  }
  backward_.push_back(sums);
}

// Whether a row's sums ask for the scaled path; nothing where they are too near to a limit to say.
std::optional<bool> Exchange::Asks(const Row& row) const {
  const isonorm_contract& contract = norm_.golden.contract;
  const bool f64 = norm_.compute.type() == Type::kF64;
  if (std::isnan(row.total.value) || std::isinf(row.total.value)) return true;
  if (norm_.layer() && !std::isfinite(row.average.value)) return true;
  if (row.total.anything() || (norm_.layer() && row.average.anything())) return std::nullopt;
  const double tiny = f64 ? 0x1p-1074 : contract.eps_place == ISONORM_EPS_OUTSIDE ? 0x1p-48 : 0x1p-120;
  const long double limit = f64 ? 0x1p-900L : 0x1p-96L;
  if (!(norm_.golden.eps < tiny) || row.total.low() >= limit) return false;
  return row.total.high() < limit ? std::optional<bool>(true) : std::nullopt;
}

Balls Exchange::Expected(const Values& sent) const {
  const auto ranks = static_cast<size_t>(norm_.golden.ranks), rows = forward_.size();
  const size_t values = norm_.layer() ? 2 : 1, round = ranks * rows * values;
  Balls all;
  const auto add = [&](auto of) {
    for (size_t rank = 0; rank < ranks; ++rank) {
      for (size_t row = 0; row < rows; ++row) {
        const std::array<Ball, 2> two = of(row, rank);
        all.insert(all.end(), two.begin(), two.begin() + static_cast<std::ptrdiff_t>(values));
      }
    }
  };
  const std::array<Ball, 2> none = {Ball{0, 0}, Ball{0, 0}};
  if (norm_.layer()) add([&](size_t row, size_t rank) { return forward_[row].mean[rank]; });
  add([&](size_t row, size_t rank) { return forward_[row].squares[rank]; });
  // Where the oracle cannot say, the row does as the ranks did, in the round that follows.
  std::vector<bool> asks, scaled;
  for (size_t row = 0; row < rows; ++row) {
    bool did = false;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const size_t at = all.size() + (rank * rows + row) * values;
      did = did || (all.size() + round * (norm_.golden.backward() ? 2 : 1) <= sent.size() && sent[at] != 0);
    }
    asks.push_back(Asks(forward_[row]).value_or(did));
    scaled.push_back(asks[row] && !scaled_[row].squares.empty());
  }
  if (std::find(asks.begin(), asks.end(), true) != asks.end()) {
    add([&](size_t row, size_t rank) { return asks[row] ? largest_[row][rank] : none; });
  }
  if (std::find(scaled.begin(), scaled.end(), true) != scaled.end()) {
    if (norm_.layer()) add([&](size_t row, size_t rank) { return scaled[row] ? scaled_[row].mean[rank] : none; });
    add([&](size_t row, size_t rank) { return scaled[row] ? scaled_[row].squares[rank] : none; });
  }
  if (norm_.golden.backward()) add([&](size_t row, size_t rank) { return backward_[row][rank]; });
  return all;
}

}  // namespace isonorm_test
