#include "apply/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "output_file.h"

namespace isonorm_cli {
namespace {

// `apply` stays below 256 MB. Buffers of this size keep the work in the last-level cache and the calls to the system few;
// the second number is what the buffers of one enormous row may grow to. The rest is for what two very large headers say.
constexpr std::int64_t kChunkBytes = 8 << 20;
constexpr std::int64_t kMaxBytes = 96 << 20;

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Memory that grows by being replaced: a vector would hold old and new at once.
class Buffer {
 public:
  std::span<std::byte> Get(std::int64_t bytes) {
    const auto size = static_cast<std::size_t>(bytes);
    if (size > size_) {
      data_.reset();
      size_ = 0;
      data_ = std::make_unique_for_overwrite<std::byte[]>(size);
      size_ = size;
    }
    return {data_.get(), size};
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
};

// A piece of every tensor of a call: some rows, or all of a vector. What the call does not have is not looked at.
struct Piece {
  std::span<std::byte> x = {}, weight = {}, bias = {}, residual = {}, gate = {}, y = {}, scale = {};
};

class Runner {
 public:
  Runner(const Plan& plan, const ApplyOptions& options, const Context& context)
      : plan_(plan), options_(options), progress_(context, options.output, TotalBytes(plan)) {
    if (options.threads == 0) {
      executor_ = isonorm::shared_executor();
    } else if (options.threads > 1) {
      pool_.emplace(options.threads);
      executor_ = pool_->executor();
    }
  }

  std::vector<TensorResult> Run() {
    // All that can be wrong with the calls is known before the output exists: a call with no rows checks the same.
    for (const Job& job : plan_.jobs) Check(job);
    OutputFile out(options_.output, options_.force);
    out.Write(0, std::as_bytes(std::span(plan_.out_header)));
    std::vector<TensorResult> results;
    for (const Job& job : plan_.jobs) {
      progress_.SetLabel(Printable(job.x.info->name));
      if (job.normalise) {
        results.push_back(Normalise(job, out));
      } else {
        Copy(job, out);
      }
    }
    out.Commit();
    return results;
  }

 private:
  static std::int64_t TotalBytes(const Plan& plan) {
    std::int64_t total = 0;
    for (const Job& job : plan.jobs) total += job.x.info->bytes;
    return total;
  }

  static std::int64_t RowBytes(const Job& job, const Stored& t) { return t ? job.cols * isonorm::size_of(t.type()) : 0; }
  static std::int64_t OutRowBytes(const Job& job) { return job.cols * isonorm::size_of(job.out_type); }
  std::int64_t ScaleRowBytes(const Job& job) const {
    return plan_.computes_scales() ? plan_.scales_per_row(job) * isonorm::size_of(plan_.scale_type()) : 0;
  }
  // Of all buffers; the sum takes the residual's place.
  std::int64_t RowBytes(const Job& job) const {
    return RowBytes(job, job.x) + RowBytes(job, job.residual) + RowBytes(job, job.gate) + OutRowBytes(job) + ScaleRowBytes(job);
  }

  void Check(const Job& job) {
    if (!job.normalise) return;
    const std::int64_t vectors = (job.weight ? job.weight.info->bytes : 0) + (job.bias ? job.bias.info->bytes : 0);
    if (job.cols > kMaxBytes || vectors > kMaxBytes || RowBytes(job) + vectors > kMaxBytes) {
      throw Failure(kBadInput,
                    fmt::format("{}: a row of {} with {} values and its weights needs more than the {} MB that apply "
                                "uses at most",
                                job.x.file->path(), Printable(job.x.info->name), job.cols, kMaxBytes >> 20));
    }
    std::byte none{};
    const std::span<std::byte> empty(&none, 0);
    Call(job, 0, {.x = empty, .weight = empty, .bias = empty, .residual = empty, .gate = empty, .y = empty, .scale = empty});
  }

  // Normalises `rows` rows.
  void Call(const Job& job, std::int64_t rows, const Piece& piece) {
    const isonorm::dims shape = {rows, job.cols};
    const auto view = [](const Stored& t, std::span<const std::byte> data, const isonorm::dims& as) {
      return isonorm::const_tensor(data.data(), t.type(), as);
    };
    isonorm::forward_args args = {.x = view(job.x, piece.x, shape), .y = {piece.y.data(), job.out_type, shape}};
    if (job.weight) args.weight = view(job.weight, piece.weight, std::span(job.weight.info->shape));
    if (job.bias) args.bias = view(job.bias, piece.bias, std::span(job.bias.info->shape));
    if (job.residual) args.residual = view(job.residual, piece.residual, shape);
    if (job.residual_out) args.residual_out = {piece.residual.data(), job.residual.type(), shape};
    if (job.gate) args.gate = view(job.gate, piece.gate, shape);
    args.groups = options_.groups;
    args.window = options_.window;
    args.executor = executor_;
    args.quantization = plan_.quantization;
    if (plan_.computes_scales()) {
      args.scale = {piece.scale.data(), plan_.scale_type(), {rows, plan_.scales_per_row(job)}};
    } else if (plan_.quantization) {
      args.static_scale = {&job.static_scale, {1}};
    }
    try {
      isonorm::forward(plan_.contract, options_.eps, args);
    } catch (const isonorm::error& e) {
      throw isonorm::error(e.status(), fmt::format("{}: {}", Printable(job.x.info->name), e.what()));
    }
  }

  TensorResult Normalise(const Job& job, OutputFile& out) {
    TensorResult result;
    result.job = &job;
    if (plan_.quantization && !counter_) counter_.emplace(job.out_type, plan_.scale_type());  // the same for all tensors
    const Clock::time_point start = Clock::now();
    Piece piece = {.weight = LoadVector(job.weight, weight_), .bias = LoadVector(job.bias, bias_)};
    const std::int64_t step = std::clamp<std::int64_t>(kChunkBytes / std::max<std::int64_t>(RowBytes(job), 1), 1,
                                                       std::max<std::int64_t>(job.rows, 1));
    const auto load = [&](const Stored& t, std::int64_t row, std::int64_t rows, Buffer& buffer) {
      const std::int64_t bytes = RowBytes(job, t);
      const std::span<std::byte> data = buffer.Get(rows * bytes);
      if (t) t.Read(row * bytes, data);
      return data;
    };
    for (std::int64_t row = 0; row < job.rows; row += step) {
      const std::int64_t rows = std::min(step, job.rows - row);
      piece.x = load(job.x, row, rows, x_);
      piece.residual = load(job.residual, row, rows, residual_);
      piece.gate = load(job.gate, row, rows, gate_);
      piece.y = y_.Get(rows * OutRowBytes(job));
      piece.scale = scale_.Get(rows * ScaleRowBytes(job));
      const Clock::time_point before = Clock::now();
      Call(job, rows, piece);
      result.normalise_seconds += Since(before);
      Observe(job, piece, result);
      out.Write(job.out_offset + row * OutRowBytes(job), piece.y);
      if (job.residual_out) out.Write(job.residual_out->offset + row * RowBytes(job, job.residual), piece.residual);
      if (plan_.computes_scales()) out.Write(job.scale->offset + row * ScaleRowBytes(job), piece.scale);
      progress_.Add(static_cast<std::int64_t>(piece.x.size()));
    }
    if (job.scale && !plan_.computes_scales()) {
      const std::span<const std::byte> scale = std::as_bytes(std::span(&job.static_scale, 1));
      out.Write(job.scale->offset, scale);
      if (options_.digest) result.scale_digest.Add(scale);
    }
    result.seconds = Since(start);
    result.bytes = job.rows * (RowBytes(job) + (job.residual_out ? RowBytes(job, job.residual) : 0));
    if (job.x.info->bytes > 0) result.kernel = isonorm::last_kernel();
    return result;
  }

  // Counts both sides and digests what is written: four tasks for the executor, if they are worth it.
  void Observe(const Job& job, const Piece& piece, TensorResult& result) {
    struct Observation {
      const Runner& runner;
      const Job& job;
      const Piece& piece;
      TensorResult& result;
      bool digest;
    } observation = {*this, job, piece, result, options_.digest};
    const auto task = [](void* context, std::int64_t index) {
      auto& o = *static_cast<Observation*>(context);
      if (index == 0 && o.digest) o.result.digest.Add(o.piece.y);
      if (index == 1) o.result.before.Add(o.piece.x, o.job.x.type());
      if (index == 2) o.runner.CountOutput(o.job, o.piece, o.result);
      if (index == 3 && o.digest && o.runner.plan_.computes_scales()) o.result.scale_digest.Add(o.piece.scale);
      if (index == 3 && o.job.residual_out) {
        if (o.digest) o.result.residual_digest.Add(o.piece.residual);
        o.result.residual_out.Add(o.piece.residual, o.job.residual.type());
      }
    };
    constexpr std::size_t kWorthThreads = 1 << 20;
    if (executor_ != nullptr && piece.y.size() >= kWorthThreads) {
      executor_->parallel_for(executor_->context, 4, task, &observation);
    } else {
      for (std::int64_t i = 0; i < 4; ++i) task(&observation, i);
    }
  }

  void CountOutput(const Job& job, const Piece& piece, TensorResult& result) const {
    if (!plan_.quantization) {
      result.after.Add(piece.y, job.out_type);
    } else if (plan_.computes_scales()) {
      counter_->Add(piece.y, piece.scale, job.cols / plan_.scales_per_row(job), result.after, result.quantized);
    } else {
      counter_->Add(piece.y, std::as_bytes(std::span(&job.static_scale, 1)), static_cast<std::int64_t>(piece.y.size()),
                    result.after, result.quantized);
    }
  }

  void Copy(const Job& job, OutputFile& out) {
    for (std::int64_t offset = 0; offset < job.x.info->bytes; offset += kChunkBytes) {
      const std::span<std::byte> bytes = x_.Get(std::min(kChunkBytes, job.x.info->bytes - offset));
      job.x.Read(offset, bytes);
      out.Write(job.out_offset + offset, bytes);
      progress_.Add(static_cast<std::int64_t>(bytes.size()));
    }
  }

  static std::span<std::byte> LoadVector(const Stored& vector, Buffer& buffer) {
    if (!vector) return {};
    const std::span<std::byte> bytes = buffer.Get(vector.info->bytes);
    vector.Read(0, bytes);
    return bytes;
  }

  const Plan& plan_;
  const ApplyOptions& options_;
  std::optional<isonorm::thread_pool> pool_;
  const isonorm_executor* executor_ = nullptr;
  Progress progress_;
  std::optional<QuantizedCounter> counter_;
  Buffer x_, y_, residual_, gate_, scale_, weight_, bias_;
};

}  // namespace

std::vector<TensorResult> RunPlan(const Plan& plan, const ApplyOptions& options, const Context& context) {
  return Runner(plan, options, context).Run();
}

}  // namespace isonorm_cli
