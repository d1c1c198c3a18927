// What the command `isonorm stats` says about tensors, of tensors in memory: its own scan, JSON and page. And its digest.
#include <isonorm/isonorm.hpp>
#include <nanobind/stl/string.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "array.h"
#include "common.h"
#include "dtype_names.h"
#include "fnv.h"
#include "stats/stats.h"

namespace isonorm_python {
namespace {

// As stubs are to show them.
using Tensors = nb::typed<nb::list, nb::any>;
using Dicts = nb::typed<nb::list, nb::typed<nb::dict, nb::str, nb::object>>;

namespace cli = isonorm_cli;

// count values of Size bytes, from places that are `stride` bytes apart and need not be aligned.
template <std::size_t Size>
void Gather(std::byte* out, const std::byte* in, std::int64_t count, std::int64_t stride) {
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * static_cast<std::int64_t>(Size), in + i * stride, Size);
}

// The rows of a tensor in memory: where they lie, if they lie one after the other, and else gathered.
class MemoryRows {
 public:
  MemoryRows(nb::handle array, const char* name) {
    array_.Read(array, name, Access::kRead, Source::kAny);
    if (array_.get() == nullptr) throw nb::type_error((std::string(name) + " is None, but has to be an array").c_str());
    const isonorm_tensor& t = *array_.get();
    if (t.data == nullptr && array_.size() > 0) {
      throw nb::value_error((std::string(name) + " has no memory, but is not empty").c_str());
    }
    data_ = static_cast<const std::byte*>(t.data) + t.byte_offset;
    size_ = t.dtype.bits / 8;
    last_ = t.ndim - 1;
    std::int64_t compact = 1;
    for (int i = last_; i >= 0; --i) {
      in_place_ = in_place_ && t.strides[i] == compact;
      compact *= t.shape[i];
    }
  }

  std::int64_t size() const { return array_.size(); }
  std::int64_t cols() const { return array_.get()->shape[last_]; }
  std::int64_t row_bytes() const { return cols() * size_; }
  isonorm_dtype type() const { return array_.get()->dtype; }

  std::span<const std::byte> Rows(std::int64_t first, std::int64_t count, cli::GrowingBuffer& buffer) const {
    const std::int64_t bytes = count * row_bytes();
    if (in_place_) return {data_ + first * row_bytes(), static_cast<std::size_t>(bytes)};
    const std::span<std::byte> rows = buffer.First(bytes);
    for (std::int64_t i = 0; i < count; ++i) Copy(rows.data() + i * row_bytes(), data_ + Offset(first + i));
    return rows;
  }

 private:
  std::int64_t Offset(std::int64_t row) const {
    const isonorm_tensor& t = *array_.get();
    std::int64_t offset = 0;
    for (int i = last_ - 1; i >= 0; --i) {
      offset += row % t.shape[i] * t.strides[i];
      row /= t.shape[i];
    }
    return offset * size_;
  }

  void Copy(std::byte* out, const std::byte* row) const {
    const std::int64_t stride = array_.get()->strides[last_] * size_;
    if (stride == size_) {
      std::memcpy(out, row, static_cast<std::size_t>(row_bytes()));
    } else if (size_ == 8) {
      Gather<8>(out, row, cols(), stride);
    } else if (size_ == 4) {
      Gather<4>(out, row, cols(), stride);
    } else if (size_ == 2) {
      Gather<2>(out, row, cols(), stride);
    } else {
      Gather<1>(out, row, cols(), stride);
    }
  }

  Array array_;
  const std::byte* data_;
  std::int64_t size_;
  int last_;
  bool in_place_ = true;
};

isonorm::dtype FloatType(const MemoryRows& rows, nb::handle array, const std::string& name) {
  const std::string_view found = DtypeName(rows.type());
  for (const cli::DtypeWord& word : cli::kDtypes) {
    if (word.torch == found && isonorm::size_of(word.type) > 1) return word.type;
  }
  const auto type = nb::cast<std::string>(array.attr("dtype").attr("__str__")());
  throw nb::type_error((name + " has dtype " + type + "; stats reads float32, bfloat16, float16, float64").c_str());
}

// Lets Ctrl-C through, and calls `progress`, if it is not None, with the bytes that were done since.
class MemorySource : public cli::StatsSource {
 public:
  MemorySource(const std::vector<std::unique_ptr<MemoryRows>>& rows, const cli::StatsPlan& plan, nb::handle progress)
      : rows_(rows), plan_(plan), progress_(progress) {}

  void Begin(const cli::StatsTensor& t) override {
    current_ = rows_[static_cast<std::size_t>(&t - plan_.tensors.data())].get();
  }

  std::span<const std::byte> Rows(const cli::StatsTensor&, std::int64_t first, std::int64_t count,
                                  cli::GrowingBuffer& buffer) override {
    return current_->Rows(first, count, buffer);
  }

  void Done(std::int64_t bytes) override {
    done_ += bytes;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(50);
    const nb::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!progress_.is_none()) progress_(done_);
    done_ = 0;
  }

 private:
  const std::vector<std::unique_ptr<MemoryRows>>& rows_;
  const cli::StatsPlan& plan_;
  nb::handle progress_;
  const MemoryRows* current_ = nullptr;
  std::int64_t done_ = 0;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
};

// Tensors as Python hands them over, a list of (name, name in errors, shape, array), and what was found in them. They stand in
// one "file", which gives the page its title.
class Scan {
 public:
  Scan(Tensors tensors, const std::string& title, const cli::StatsOptions& options, int threads, nb::object progress) {
    plan_.paths = {title};
    infos_.reserve(tensors.size());
    std::int64_t values = 0;
    for (const nb::handle item : tensors) {
      const auto tensor = nb::cast<nb::tuple>(item);
      const std::string where = nb::cast<std::string>(tensor[1]);
      const MemoryRows& rows = *rows_.emplace_back(std::make_unique<MemoryRows>(tensor[3], where.c_str()));
      cli::TensorInfo& info = infos_.emplace_back();
      info.name = nb::cast<std::string>(tensor[0]);
      for (const nb::handle size : nb::cast<nb::tuple>(tensor[2])) info.shape.push_back(nb::cast<std::int64_t>(size));
      plan_.tensors.push_back(cli::MakeStatsTensor(info, FloatType(rows, tensor[3], where), 0));
      values += rows.size();
    }
    const Threads executor(threads);
    MemorySource source(rows_, plan_, progress);
    try {
      // As in Run(), whose limit this is.
      std::optional<nb::gil_scoped_release> unlocked;
      if (values >= (1 << 15)) unlocked.emplace();
      reports_ = cli::RunStats(plan_, options, source, executor.get());
    } catch (const isonorm::error& e) {
      Check(e.status());
      throw;
    }
  }

  const cli::StatsPlan& plan() const { return plan_; }
  const std::vector<cli::TensorReport>& reports() const { return reports_; }

 private:
  std::vector<std::unique_ptr<MemoryRows>> rows_;
  std::vector<cli::TensorInfo> infos_;
  cli::StatsPlan plan_;
  std::vector<cli::TensorReport> reports_;
};

// The text that --json prints.
nb::str Stats(Tensors tensors, double eps, double outlier, int threads, nb::object progress) {
  const cli::StatsOptions options = {.eps = eps, .outlier = outlier};
  const Scan scan(tensors, "", options, threads, progress);
  std::string text;
  using Json = nlohmann::ordered_json;
  const auto dump = [](const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); };
  cli::WriteStatsJson(scan.plan(), scan.reports(), options, dump, [&](std::string_view piece) { text += piece; });
  return nb::str(text.data(), text.size());
}

Dicts Compare(Tensors tensors, double eps, int threads, nb::object progress) {
  const Scan scan(tensors, "", {.eps = eps, .deviation = true}, threads, progress);
  Dicts all;
  for (const cli::TensorReport& r : scan.reports()) {
    nb::dict d;
    d["dtype"] = cli::DtypeName(r.tensor->type);
    d["rows"] = r.tensor->rows;
    d["cols"] = r.tensor->cols;
    d["compared_rows"] = r.compared;
    d["constant_rows"] = r.constant;
    d["mean"] = r.x_mean;
    d["std"] = r.x_std;
    d["rms"] = r.x_rms;
    d["rms_norm_mean"] = r.rms_norm_mean;
    d["rms_norm_std"] = r.rms_norm_std;
    d["layer_norm_mean"] = r.layer_norm_mean;
    d["layer_norm_std"] = r.layer_norm_std;
    d["cosine_mean"] = r.cosine_mean;
    d["cosine_min"] = r.cosine_min.value;
    if (r.cosine_min.row >= 0) {
      d["cosine_min_row"] = r.cosine_min.row;
    } else {
      d["cosine_min_row"] = cli::kNone;
    }
    all.append(d);
  }
  return all;
}

nb::bytes Page(Tensors tensors, const std::string& title, double eps, double outlier, int threads, nb::object progress) {
  const cli::StatsOptions options = {.eps = eps, .outlier = outlier};
  const Scan scan(tensors, title, options, threads, progress);
  std::string text;
  cli::WriteStatsPage(scan.plan(), scan.reports(), options, [&](std::string_view piece) { text += piece; });
  return nb::bytes(text.data(), text.size());
}

nb::str Digest(nb::handle x) {
  constexpr std::int64_t kPiece = 1 << 20;
  const MemoryRows rows(x, "x");
  cli::Fnv fnv;
  if (rows.size() > 0) {
    std::optional<nb::gil_scoped_release> unlocked;
    if (rows.size() >= (1 << 15)) unlocked.emplace();
    cli::GrowingBuffer buffer;
    const std::int64_t count = rows.size() / rows.cols(), step = std::max<std::int64_t>(kPiece / rows.row_bytes(), 1);
    for (std::int64_t row = 0; row < count; row += step) fnv.Add(rows.Rows(row, std::min(step, count - row), buffer));
  }
  const std::string text = fnv.text();
  return nb::str(text.data(), text.size());
}

}  // namespace

void BindStats(nb::module_& m) {
  m.def("stats", &Stats, nb::arg("tensors"), nb::arg("eps"), nb::arg("outlier"), nb::arg("threads"),
        nb::arg("progress").none());
  m.def("compare", &Compare, nb::arg("tensors"), nb::arg("eps"), nb::arg("threads"), nb::arg("progress").none());
  m.def("page", &Page, nb::arg("tensors"), nb::arg("title"), nb::arg("eps"), nb::arg("outlier"), nb::arg("threads"),
        nb::arg("progress").none());
  m.def("digest", &Digest, nb::arg("x"));
}

}  // namespace isonorm_python
