#include "apply_run.h"

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

void ReadBytes(const Stored& from, std::int64_t offset, std::span<std::byte> out) {
  try {
    from.file->Read(from.info->offset + offset, out);
  } catch (const FormatError& e) {
    throw Failure(kBadInput, fmt::format("{}: {}", from.file->path(), e.what()));
  }
}

class Runner {
 public:
  Runner(const Plan& plan, const ApplyOptions& options, const Context& context)
      : plan_(plan),
        options_(options),
        contract_(isonorm::contracts::by_name(options.contract)),
        progress_(context, options.output, TotalBytes(plan)) {
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
    out.Write(std::as_bytes(std::span(plan_.out_header)));
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

  static std::int64_t RowBytes(const Job& job) {
    return job.cols * (isonorm::size_of(job.x.type()) + isonorm::size_of(job.out_type) +
                       (job.gate ? isonorm::size_of(job.gate.type()) : 0));
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
    if (job.gate && job.gate.info->shape != job.x.info->shape) {
      throw Failure(kBadInput, fmt::format("{}: the gate {} has another shape than {}", job.gate.file->path(),
                                           Printable(job.gate.info->name), Printable(job.x.info->name)));
    }
    std::byte none{};
    Call(job, 0, &none, &none, &none, &none, &none);
  }

  // Normalises `rows` rows.
  void Call(const Job& job, std::int64_t rows, const std::byte* x, const std::byte* weight, const std::byte* bias,
            const std::byte* gate, std::byte* y) {
    const isonorm::dims shape = {rows, job.cols};
    const auto view = [](const Stored& t, const std::byte* data, const isonorm::dims& as) {
      return isonorm::const_tensor(data, t.type(), as);
    };
    isonorm::forward_args args = {.x = view(job.x, x, shape), .y = isonorm::tensor(y, job.out_type, shape)};
    if (job.weight) args.weight = view(job.weight, weight, std::span(job.weight.info->shape));
    if (job.bias) args.bias = view(job.bias, bias, std::span(job.bias.info->shape));
    if (job.gate) args.gate = view(job.gate, gate, shape);
    args.groups = options_.groups;
    args.window = options_.window;
    try {
      isonorm::forward(contract_, options_.eps, args, executor_);
    } catch (const isonorm::error& e) {
      throw isonorm::error(e.status(), fmt::format("{}: {}", Printable(job.x.info->name), e.what()));
    }
  }

  TensorResult Normalise(const Job& job, OutputFile& out) {
    TensorResult result;
    result.job = &job;
    const Clock::time_point start = Clock::now();
    const std::span<std::byte> weight = LoadVector(job.weight, weight_);
    const std::span<std::byte> bias = LoadVector(job.bias, bias_);
    const std::int64_t step = std::clamp<std::int64_t>(kChunkBytes / std::max<std::int64_t>(RowBytes(job), 1), 1,
                                                       std::max<std::int64_t>(job.rows, 1));
    const std::int64_t x_row = job.cols * isonorm::size_of(job.x.type()), y_row = job.cols * isonorm::size_of(job.out_type);
    const std::int64_t gate_row = job.gate ? job.cols * isonorm::size_of(job.gate.type()) : 0;
    for (std::int64_t row = 0; row < job.rows; row += step) {
      const std::int64_t rows = std::min(step, job.rows - row);
      const std::span<std::byte> x = x_.Get(rows * x_row), y = y_.Get(rows * y_row), gate = gate_.Get(rows * gate_row);
      ReadBytes(job.x, row * x_row, x);
      if (job.gate) ReadBytes(job.gate, row * gate_row, gate);
      const Clock::time_point before = Clock::now();
      Call(job, rows, x.data(), weight.data(), bias.data(), gate.data(), y.data());
      result.normalise_seconds += Since(before);
      Observe(job, x, y, result);
      out.Write(y);
      progress_.Add(static_cast<std::int64_t>(x.size()));
    }
    result.seconds = Since(start);
    if (job.x.info->bytes > 0) result.kernel = isonorm::last_kernel();
    return result;
  }

  // Counts both sides and digests the output: three tasks for the executor, if they are worth it.
  void Observe(const Job& job, std::span<const std::byte> x, std::span<const std::byte> y, TensorResult& result) {
    struct Observation {
      const Job& job;
      std::span<const std::byte> x, y;
      TensorResult& result;
      bool digest;
    } observation = {job, x, y, result, options_.digest};
    const auto task = [](void* context, std::int64_t index) {
      auto& o = *static_cast<Observation*>(context);
      if (index == 0 && o.digest) o.result.digest.Add(o.y);
      if (index == 1) o.result.before.Add(o.x, o.job.x.type());
      if (index == 2) o.result.after.Add(o.y, o.job.out_type);
    };
    constexpr std::size_t kWorthThreads = 1 << 20;
    if (executor_ != nullptr && y.size() >= kWorthThreads) {
      executor_->parallel_for(executor_->context, 3, task, &observation);
    } else {
      for (std::int64_t i = 0; i < 3; ++i) task(&observation, i);
    }
  }

  void Copy(const Job& job, OutputFile& out) {
    for (std::int64_t offset = 0; offset < job.x.info->bytes; offset += kChunkBytes) {
      const std::span<std::byte> bytes = x_.Get(std::min(kChunkBytes, job.x.info->bytes - offset));
      ReadBytes(job.x, offset, bytes);
      out.Write(bytes);
      progress_.Add(static_cast<std::int64_t>(bytes.size()));
    }
  }

  static std::span<std::byte> LoadVector(const Stored& vector, Buffer& buffer) {
    if (!vector) return {};
    const std::span<std::byte> bytes = buffer.Get(vector.info->bytes);
    ReadBytes(vector, 0, bytes);
    return bytes;
  }

  const Plan& plan_;
  const ApplyOptions& options_;
  const isonorm_contract contract_;
  std::optional<isonorm::thread_pool> pool_;
  const isonorm_executor* executor_ = nullptr;
  Progress progress_;
  Buffer x_, y_, gate_, weight_, bias_;
};

}  // namespace

std::vector<TensorResult> RunPlan(const Plan& plan, const ApplyOptions& options, const Context& context) {
  return Runner(plan, options, context).Run();
}

}  // namespace isonorm_cli
