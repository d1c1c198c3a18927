#include "accuracy/golden_oracle.h"

#include <algorithm>
#include <functional>

#include "accuracy/golden_exchange.h"
#include "accuracy/golden_norm.h"
#include "core/quantize_oracle.h"

namespace isonorm_test {
namespace {

using isonorm_cli::Op;
using isonorm_cli::Output;

class Judging {
 public:
  Judging(const GoldenCase& golden, const isonorm_cli::Produced& produced)
      : norm_(golden), golden_(golden), produced_(produced) {}

  Judgement Run() {
    const size_t elements = static_cast<size_t>(golden_.rows * golden_.cols);
    for (Balls* each : {&y_, &dx_, &dgate_, &dweight_, &dbias_, &ddy_}) each->reserve(elements);
    Exchange exchange(norm_);
    Balls residual_out, rstd;
    for (int64_t first = 0; first < golden_.rows * golden_.cols; first += norm_.group_cols()) {
      const Group group(norm_, first);
      rstd.push_back(group.rstd);
      if (norm_.has(norm_.residual)) Append(&residual_out, ResidualOut(first));
      if (golden_.op == Op::kForward) Append(&y_, ForwardRow(norm_, group, first));
      if (golden_.backward()) {
        const GroupGradients gradients = BackwardRow(norm_, group, first);
        Append(&dx_, gradients.dx);
        Append(&dgate_, gradients.dgate);
        Append(&dweight_, gradients.dweight);
        Append(&dbias_, gradients.dbias);
        exchange.AddBackward(gradients);
      }
      if (golden_.op == Op::kDoubleBackward) {
        const GroupDoubles gradients = DoubleBackwardRow(norm_, group, first);
        Append(&dx_, gradients.dx);
        Append(&dweight_, gradients.dweight);
        Append(&ddy_, gradients.ddy);
      }
      exchange.AddForward(group);
    }
    const Type compute = norm_.compute.type();
    Check(isonorm_cli::kRstd, compute, rstd);
    if (norm_.has(norm_.residual)) Check(isonorm_cli::kResidualOut, TypeOf(golden_.residual), residual_out);
    if (golden_.op == Op::kForward && golden_.quantizes()) CheckQuantised();
    if (golden_.op == Op::kForward && !golden_.quantizes()) Check(isonorm_cli::kY, TypeOf(golden_.out), y_);
    if (golden_.op != Op::kForward) {
      Check(isonorm_cli::kDx, norm_.x_type, dx_);
      if (golden_.weight != isonorm_cli::Type::kNone)
        Check(isonorm_cli::kDweight, TypeOf(golden_.weight), Columns(dweight_, 0, golden_.rows));
    }
    if (golden_.backward() && golden_.bias != isonorm_cli::Type::kNone)
      Check(isonorm_cli::kDbias, TypeOf(golden_.bias), Columns(dbias_, 0, golden_.rows));
    if (golden_.backward() && golden_.has_gate()) Check(isonorm_cli::kDgate, norm_.x_type, dgate_);
    if (golden_.op == Op::kDoubleBackward) Check(isonorm_cli::kDdy, TypeOf(golden_.dy), ddy_);
    if (golden_.part_rows > 0) Check(isonorm_cli::kParts, compute, Parts());
    if (golden_.ranks > 0)
      Check(isonorm_cli::kExchanged, compute, exchange.Expected(ValuesOf(golden_.compute(), Bytes(isonorm_cli::kExchanged))));
    for (size_t output = 0; output < isonorm_cli::kOutputCount; ++output) {
      if (produced_[output] && !judged_[output]) Wrong(isonorm_cli::kOutputNames[output], "it was not judged");
    }
    return judgement_;
  }

 private:
  static void Append(Balls* to, const Balls& from) { to->insert(to->end(), from.begin(), from.end()); }

  Balls ResidualOut(int64_t first) const {
    Balls out;
    for (int64_t i = first; i < first + norm_.group_cols(); ++i) {
      const Ball sum = norm_.Input(norm_.x, i) + norm_.Input(norm_.residual, i);
      out.push_back(Stored(TypeOf(golden_.residual), Stored(norm_.compute.type(), sum)));
    }
    return out;
  }

  // Sums over rows, by the column.
  Balls Columns(const Balls& terms, int64_t first, int64_t count) const {
    Balls sums;
    for (int64_t col = 0; col < golden_.cols; ++col) {
      Total total;
      for (int64_t row = first; row < first + count; ++row) total.Add(terms[static_cast<size_t>(row * golden_.cols + col)]);
      sums.push_back(total.In(norm_.compute, RowRoundings(count)));
    }
    return sums;
  }

  Balls Parts() const {
    Balls all;
    for (const Balls* terms : {&dweight_, &dbias_}) {
      const bool present = (terms == &dweight_ ? golden_.weight : golden_.bias) != isonorm_cli::Type::kNone;
      for (int64_t first = 0; first < golden_.rows && present; first += golden_.part_rows) {
        Append(&all, Columns(*terms, first, std::min(golden_.part_rows, golden_.rows - first)));
      }
    }
    return all;
  }

  const std::vector<uint8_t>& Bytes(Output output) const {
    static const std::vector<uint8_t> none;
    return produced_[output] ? *produced_[output] : none;
  }

  void Wrong(const std::string& output, const std::string& what) {
    if (judgement_.wrong.empty()) judgement_.wrong = golden_.id + ": " + output + ": " + what;
  }

  // Every value of an output that must be there.
  bool Begin(Output output, size_t bytes) {
    judged_[output] = true;
    ++judgement_.outputs;
    if (produced_[output] && produced_[output]->size() == bytes) return true;
    Wrong(isonorm_cli::kOutputNames[output],
          "it has " + std::to_string(Bytes(output).size()) + " bytes, not " + std::to_string(bytes));
    return false;
  }

  void Check(Output output, Type type, const Balls& expected) {
    const size_t size = FormatOf(type).bytes;
    if (!Begin(output, expected.size() * size)) return;
    for (size_t i = 0; i < expected.size(); ++i) {
      const long double got = Get(type, &Bytes(output)[i * size]);
      ++judgement_.values;
      judgement_.open += expected[i].anything() ? 1 : 0;
      if (Within(type, got, expected[i])) continue;
      Wrong(isonorm_cli::kOutputNames[output], "value " + std::to_string(i) + " is " + std::to_string(got) + ", not " +
                                                   std::to_string(expected[i].value) + " within " +
                                                   std::to_string(expected[i].error / norm_.compute.unit()) + " units");
    }
  }

  // Scales lie between those of the least and the largest values that there may be; bytes between those of the values' ends,
  // divided by the very scale that was stored.
  void CheckQuantised() {
    const core_test::QuantizeOracle format(golden_.out);
    const isonorm_quantization& q = golden_.quantization;
    const Type f32 = Type::kF32;
    if (q.rounded_to.bits != 0) {
      const Type type = q.rounded_to.code == ISONORM_CODE_BFLOAT ? Type::kBf16 : Type::kF16;
      for (Ball& t : y_) t = Stored(type, t);
    }
    const bool power = q.scale_kind == ISONORM_SCALE_POWER_OF_TWO, fixed = golden_.has_static_scale();
    const int64_t width = q.group_cols == 0 ? golden_.cols : q.group_cols;
    const size_t scales = static_cast<size_t>(golden_.rows * golden_.scales());
    if (!Begin(isonorm_cli::kY, y_.size())) return;
    if (!fixed && !Begin(isonorm_cli::kScale, scales * (power ? 1 : sizeof(float)))) return;
    for (size_t block = 0; block < scales; ++block) {
      const auto begin = y_.begin() + static_cast<std::ptrdiff_t>(block) * width, end = begin + width;
      // A factor as the library applies it: 1 / scale with a rounding, or an exact power of two.
      Ball factor = norm_.compute.Rounded(Ball{1, 0} / Ball{golden_.static_scale, 0});
      if (!fixed) {
        float low = 0, high = 0;
        for (auto t = begin; t != end; ++t) {
          if (t->anything() || !std::isfinite(t->value)) continue;
          low = std::max(low, static_cast<float>(RoundTo(f32, std::fmax(0, std::fabs(t->value) - t->error))));
          high = std::max(high, static_cast<float>(RoundTo(f32, t->size())));
        }
        ++judgement_.values;
        bool within = false;
        if (power) {
          const int got = Bytes(isonorm_cli::kScale)[block] - 127;
          within = format.ExponentOf(q, low) <= got && got <= format.ExponentOf(q, high);
          factor = {std::ldexp(1.0L, (golden_.out == isonorm_cli::Type::kI8 ? 6 : 0) - got), 0};
        } else {
          const long double got = Get(f32, &Bytes(isonorm_cli::kScale)[block * sizeof(float)]);
          within = format.ScaleOf(q, low) <= got && got <= format.ScaleOf(q, high);
          factor = norm_.compute.Rounded(Ball{1, 0} / Ball{got, 0});
        }
        if (!within) Wrong("scale", "that of block " + std::to_string(block) + " is not that of its largest value");
      }
      for (auto t = begin; t != end; ++t) CheckByte(static_cast<size_t>(t - y_.begin()), *t * factor, format);
    }
  }

  void CheckByte(size_t i, Ball quotient, const core_test::QuantizeOracle& format) {
    const int got = Bytes(isonorm_cli::kY)[i];
    ++judgement_.values, ++judgement_.quantised;
    if (quotient.anything()) return void(++judgement_.open);
    const auto nearest = [&](long double value) { return format.Nearest(static_cast<float>(RoundTo(Type::kF32, value))); };
    const int low = nearest(quotient.low()), high = nearest(quotient.high());
    judgement_.ties += low != high ? 1 : 0;
    const auto value = [&](int code) { return core_test::ValueOf(golden_.out, code); };
    if (got == low || got == high || (value(low) <= value(got) && value(got) <= value(high))) return;
    Wrong("y", "byte " + std::to_string(i) + " is " + std::to_string(got) + ", not " + std::to_string(low) + " to " +
                   std::to_string(high));
  }

  Norm norm_;
  const GoldenCase& golden_;
  const isonorm_cli::Produced& produced_;
  Balls y_, dx_, dgate_, dweight_, dbias_, ddy_;
  std::array<bool, isonorm_cli::kOutputCount> judged_ = {};
  Judgement judgement_;
};

}  // namespace

Judgement Judge(const GoldenCase& golden, const isonorm_cli::Produced& produced) { return Judging(golden, produced).Run(); }

}  // namespace isonorm_test
