#include "checkpoint/change.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "to_double.h"

namespace isonorm_cli {
namespace {

constexpr std::int64_t kPieceBytes = 4 << 20;

// To f32, and where that is not exact with an odd last bit: rounding this on to half as many bits is then rounding once.
float ToOdd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || std::isinf(nearest)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;
  return std::bit_cast<float>(bits | 1u);
}

std::uint16_t ToBf16(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(ToOdd(value));
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// Of a finite value; one that is too large becomes infinite.
std::uint16_t ToF16(double value) {
  const float odd = ToOdd(value), magnitude = std::fabs(odd);
  const auto sign = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(odd) >> 16 & 0x8000u);
  std::uint32_t rest;
  if (magnitude >= 65520.0f) {
    rest = 0x7c00u;
  } else if (magnitude < 0x1p-14f) {
    rest = std::bit_cast<std::uint32_t>(magnitude + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);  // 0.5 has a last bit of 2^-24
  } else {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(magnitude) - (112u << 23);
    rest = (bits + 0xfffu + (bits >> 13 & 1u)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | rest);
}

isonorm::dtype TypeOf(const TensorInfo& t) {
  switch (t.type) {
    case ElementType::kF64: return isonorm::dtype::f64;
    case ElementType::kBf16: return isonorm::dtype::bf16;
    case ElementType::kF16: return isonorm::dtype::f16;
    default: return isonorm::dtype::f32;
  }
}

// A tensor as rows of f64.
class Rows {
 public:
  Rows(const TensorInfo& info, std::size_t tensor, const ReadTensor& read)
      : info_(info),
        tensor_(tensor),
        read_(read),
        type_(TypeOf(info)),
        cols_(info.shape.back()),
        rows_(info.shape.size() == 2 ? info.shape[0] : 1) {}

  std::int64_t rows() const { return rows_; }
  std::size_t cols() const { return static_cast<std::size_t>(cols_); }

  // Calls use(row, values) for each, and end() after each piece. Values are left changed for end().
  template <class Use, class End>
  void ForEach(Use use, End end) {
    const std::int64_t row_bytes = cols_ * isonorm::size_of(type_);
    const std::int64_t step = std::clamp<std::int64_t>(kPieceBytes / row_bytes, 1, rows_);
    for (std::int64_t first = 0; first < rows_; first += step) {
      const std::int64_t count = std::min(step, rows_ - first);
      bytes_.resize(static_cast<std::size_t>(count * row_bytes));
      read_(tensor_, first * row_bytes, bytes_);
      values_.resize(static_cast<std::size_t>(count * cols_));
      Widen("holds a value that is not finite");
      for (std::int64_t i = 0; i < count; ++i)
        use(first + i, std::span(values_).subspan(static_cast<std::size_t>(i * cols_), cols()));
      end();
    }
  }
  template <class Use>
  void ForEach(Use use) {
    ForEach(use, [] {});
  }

  // The piece at hand, with the values that were put there.
  std::span<const std::byte> Rounded() {
    const auto store = [&]<class T>(auto to) {
      for (std::size_t i = 0; i < values_.size(); ++i) {
        const T stored = to(values_[i]);
        std::memcpy(bytes_.data() + i * sizeof(T), &stored, sizeof(T));
      }
    };
    switch (type_) {
      case isonorm::dtype::f64: store.template operator()<double>([](double v) { return v; }); break;
      case isonorm::dtype::bf16: store.template operator()<std::uint16_t>(ToBf16); break;
      case isonorm::dtype::f16: store.template operator()<std::uint16_t>(ToF16); break;
      default: store.template operator()<float>([](double v) { return static_cast<float>(v); });
    }
    Widen("would hold a value that its type cannot");
    return bytes_;
  }

 private:
  void Widen(const char* complaint) {
    WithValues(type_, [&]<class Values>() {
      typename Values::Raw raw;
      for (std::size_t i = 0; i < values_.size(); ++i) {
        std::memcpy(&raw, bytes_.data() + i * sizeof raw, sizeof raw);
        values_[i] = Values::ToDouble(raw);
        if (!std::isfinite(values_[i])) throw Refusal(fmt::format("{} of type {} {}", info_.name, info_.type_name, complaint));
      }
    });
  }

  const TensorInfo& info_;
  std::size_t tensor_;
  const ReadTensor& read_;
  isonorm::dtype type_;
  std::int64_t cols_, rows_;
  std::vector<std::byte> bytes_;
  std::vector<double> values_;
};

}  // namespace

void ComputeChange(const Change& change, const std::vector<TensorInfo>& tensors, const ReadTensor& read,
                   const WriteTensor& write) {
  using Kind = Change::Kind;
  const auto rows_of = [&](std::size_t tensor) { return Rows(tensors[tensor], tensor, read); };
  const auto vector_of = [&](std::size_t tensor) {
    std::vector<double> vector;
    rows_of(tensor).ForEach([&](std::int64_t, std::span<double> values) { vector.assign(values.begin(), values.end()); });
    return vector;
  };
  Rows rows = rows_of(change.tensor);
  std::vector<double> by;  // a value for each column, or for each row
  if (change.kind == Kind::kCentreColumns) {
    by.resize(rows.cols());
    rows.ForEach([&](std::int64_t, std::span<double> values) {
      for (std::size_t i = 0; i < by.size(); ++i) by[i] += values[i];
    });
    for (double& sum : by) sum /= static_cast<double>(rows.rows());
  } else if (change.kind == Kind::kScale) {
    by = vector_of(change.norm);
    for (double& weight : by) weight += change.value;
  } else if (change.kind == Kind::kAddBias) {
    const std::vector<double> bias = vector_of(change.norm);
    by.resize(rows.cols());
    rows_of(change.weight).ForEach([&](std::int64_t row, std::span<double> values) {
      const auto r = static_cast<std::size_t>(row);
      for (std::size_t i = 0; i < values.size(); ++i) {
        (change.inputs_first ? by[i] : by[r]) += values[i] * (change.inputs_first ? bias[r] : bias[i]);
      }
    });
  }
  const auto use = [&](std::int64_t row, std::span<double> values) {
    double mean = 0;
    if (change.kind == Kind::kCentreRows) {
      for (const double value : values) mean += value;
      mean /= static_cast<double>(values.size());
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      switch (change.kind) {
        case Kind::kCentreRows: values[i] -= mean; break;
        case Kind::kCentreColumns: values[i] -= by[i]; break;
        case Kind::kScale: values[i] *= change.inputs_first ? by[static_cast<std::size_t>(row)] : by[i]; break;
        case Kind::kAddBias: values[i] += by[i]; break;
        case Kind::kFill: values[i] = change.value;
      }
    }
  };
  rows.ForEach(use, [&] { write(rows.Rounded()); });
}

}  // namespace isonorm_cli
