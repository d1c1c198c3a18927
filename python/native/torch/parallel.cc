// sharded_forward, sharded_backward, combine_gradients: what several processes compute together (isonorm/parallel.h). Between
// two operators torch.distributed gathers what they hand over. All else of a call is done here: after rows have gone through the
// caches, each operation of torch's takes several microseconds more than the arithmetic of a row.
#include <cstring>
#include <stdexcept>

#include "call.h"
#include "kernels.h"

namespace isonorm_torch {
namespace {

// What has to be the same on all ranks, as a number: FNV-1a.
class Mark {
 public:
  void Add(const void* data, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) value_ = (value_ ^ static_cast<const unsigned char*>(data)[i]) * 16777619U;
  }
  void Add(const std::string& text) { Add(text.c_str(), text.size() + 1); }
  void Add(double number) { Add(&number, sizeof number); }
  void Add(std::int64_t number) { Add(&number, sizeof number); }
  void Add(const Input& tensor) {
    const std::int64_t ndim = tensor.get() == nullptr ? -1 : tensor.ndim();
    Add(ndim);
    if (ndim < 0) return;
    const isonorm_dtype dtype = DtypeOf(tensor.dtype());
    Add(std::int64_t{dtype.code} << 8 | dtype.bits);
    for (std::int64_t i = 0; i < ndim; ++i) Add(tensor.sizes()[i]);
  }

  std::uint32_t value() const { return value_; }

 private:
  std::uint32_t value_ = 2166136261U;
};

// What a rank sends, [rows + 1, values], and what all ranks did, one after the other. The last row has the mark.
class Message {
 public:
  Message(std::int64_t rows, std::int64_t values, std::int64_t ranks)
      : rows_(rows),
        values_(values),
        ranks_(ranks),
        of_own_{rows, values},
        of_all_{ranks, rows, values},
        strides_{(rows + 1) * values, values, 1} {}

  void Allocate(std::int32_t dtype) {
    const std::int64_t sent[] = {rows_ + 1, values_}, received[] = {ranks_ * (rows_ + 1), values_};
    sent_ = Empty(2, sent, dtype);
    received_ = Empty(2, received, dtype);
    Read();
  }
  void Take(Handle sent, Handle received) {
    sent_ = std::move(sent);
    received_ = std::move(received);
    Read();
  }
  StableIValue ReleaseSent() { return reinterpret_cast<StableIValue>(sent_.release()); }
  StableIValue ReleaseReceived() { return reinterpret_cast<StableIValue>(received_.release()); }

  void Write(const Mark& mark) {
    char* const row = static_cast<char*>(partial_.data) + rows_ * values_ * size();
    std::memset(row, 0, static_cast<std::size_t>(values_ * size()));
    const std::uint32_t value = mark.value();
    std::memcpy(row, &value, sizeof value);
  }
  void CheckMarks() const {
    std::string others;
    std::uint32_t first = 0;
    for (std::int64_t rank = 0; rank < ranks_; ++rank) {
      std::uint32_t mark;
      const char* const part = static_cast<const char*>(gathered_.data) + rank * (rows_ + 1) * values_ * size();
      std::memcpy(&mark, part + rows_ * values_ * size(), sizeof mark);
      if (rank == 0) first = mark;
      if (mark != first) others += (others.empty() ? "" : ", ") + std::to_string(rank);
    }
    if (others.empty()) return;
    throw std::runtime_error(
        "ranks [" + others +
        "] of the group call with other shapes, types, options, eps, contract or frozen parameters than rank 0, but all "
        "have to make the same call of shards of the same size");
  }

  isonorm_shard ShardWith(const isonorm_tensor* statistic) const {
    auto shard = Sized<isonorm_shard>();
    shard.ranks = ranks_;
    shard.partial = sent_ ? &partial_ : nullptr;
    shard.gathered = received_ ? &gathered_ : nullptr;
    shard.statistic = statistic;
    return shard;
  }

 private:
  std::int64_t size() const { return (sent_ ? partial_ : gathered_).dtype.bits / 8; }
  void Read() {
    const auto described = [](const Handle& tensor, std::int32_t ndim, std::int64_t* shape, std::int64_t* strides) {
      std::int32_t dtype;
      void* data;
      CheckTorch(aoti_torch_get_dtype(tensor.get(), &dtype));
      CheckTorch(torch_get_mutable_data_ptr(tensor.get(), &data));
      return isonorm_tensor{data, {ISONORM_DEVICE_CPU, 0}, ndim, DtypeOf(dtype), shape, strides, 0};
    };
    if (sent_) partial_ = described(sent_, 2, of_own_, nullptr);
    if (received_) gathered_ = described(received_, 3, of_all_, strides_);
  }

  const std::int64_t rows_, values_, ranks_;
  std::int64_t of_own_[2], of_all_[3], strides_[3];
  Handle sent_, received_;
  isonorm_tensor partial_ = {}, gathered_ = {};
};

std::int64_t RowsOf(const Input& x) {
  std::int64_t rows = 1;
  for (std::int64_t i = 0; i + 1 < x.ndim(); ++i) rows *= x.sizes()[i];
  return rows;
}

std::int64_t ValuesOf(const isonorm_contract& contract) { return contract.statistic == ISONORM_STATISTIC_RMS ? 1 : 2; }

// What both operators of forward take first.
struct ForwardCall {
  explicit ForwardCall(Arguments& a)
      : x_handle(a.Tensor()),
        weight_handle(a.OptionalTensor()),
        bias_handle(a.OptionalTensor()),
        eps(a.Double()),
        name(a.String()),
        residual_handle(a.OptionalTensor()),
        gate_handle(a.OptionalTensor()),
        ranks(a.Int()) {}

  // Once the kernel owns all its arguments.
  void Read() {
    in.x.Read(x_handle, Fold::kRows);
    in.weight.Read(weight_handle);
    in.bias.Read(bias_handle);
    in.residual.Read(residual_handle, Fold::kRows);
    in.gate.Read(gate_handle, Fold::kRows);
    contract = ContractOf(name);
    in.GiveTo(args);
    args.executor = executor.get();
  }
  void SendPartial(Message& message, const isonorm_tensor* statistic, std::int32_t turn) {
    const isonorm_shard shard = message.ShardWith(statistic);
    Check(isonorm_forward_partial(&contract, eps, &args, &shard, turn));
    Mark mark;
    mark.Add(std::int64_t{turn});
    mark.Add(eps);
    mark.Add(name);
    for (const Input* tensor : {&in.x, &in.weight, &in.bias, &in.residual, &in.gate}) mark.Add(*tensor);
    message.Write(mark);
  }

  const Handle x_handle, weight_handle, bias_handle;
  const double eps;
  const std::string name;
  const Handle residual_handle, gate_handle;
  const std::int64_t ranks;
  isonorm_base::ForwardInputs<Input> in;
  isonorm_contract contract;
  const Executor executor;
  isonorm_forward_args args = Sized<isonorm_forward_args>();
};

// And of backward.
struct BackwardCall {
  explicit BackwardCall(Arguments& a)
      : dy_handle(a.Tensor()),
        x_handle(a.OptionalTensor()),
        weight_handle(a.OptionalTensor()),
        bias_handle(a.OptionalTensor()),
        eps(a.Double()),
        name(a.String()),
        residual_handle(a.OptionalTensor()),
        residual_out_handle(a.OptionalTensor()),
        dresidual_handle(a.OptionalTensor()),
        gate_handle(a.OptionalTensor()),
        ranks(a.Int()),
        statistic_handle(a.Tensor()) {}

  void Read() {
    in.dy.Read(dy_handle, Fold::kRows);
    in.x.Read(x_handle, Fold::kRows);
    in.weight.Read(weight_handle);
    in.bias.Read(bias_handle);
    in.residual.Read(residual_handle, Fold::kRows);
    in.residual_out.Read(residual_out_handle, Fold::kRows);
    in.dresidual.Read(dresidual_handle, Fold::kRows);
    in.gate.Read(gate_handle, Fold::kRows);
    statistic.Read(statistic_handle);
    contract = ContractOf(name);
    in.GiveTo(args);
    args.executor = executor.get();
  }
  std::int32_t compute() const { return statistic.dtype(); }
  Message MessageOf() const { return Message(RowsOf(in.dy), ValuesOf(contract), ranks); }

  const Handle dy_handle, x_handle, weight_handle, bias_handle;
  const double eps;
  const std::string name;
  const Handle residual_handle, residual_out_handle, dresidual_handle, gate_handle;
  const std::int64_t ranks;
  const Handle statistic_handle;
  isonorm_base::BackwardInputs<Input> in;
  Input statistic;
  isonorm_contract contract;
  const Executor executor;
  isonorm_backward_args args = Sized<isonorm_backward_args>();
};

}  // namespace

// Memory for all that the call computes, and what is sent in its first turn.
void ShardedForward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  ForwardCall call(a);
  const std::optional<std::int32_t> dtype = a.OptionalDtype();
  call.Read();
  const std::int32_t compute = ComputeDtype(call.in.x.dtype());
  const std::int64_t rows = RowsOf(call.in.x), of_statistic[] = {rows, 4};
  Message message(rows, ValuesOf(call.contract), call.ranks);
  message.Allocate(compute);
  Output statistic;
  isonorm_base::ForwardOutputs<Output> out;
  statistic.Allocate(2, of_statistic, compute);
  out.y.Like(call.in.x, dtype.value_or(call.in.x.dtype()));
  if (call.residual_handle) out.residual_out.Like(call.in.residual, call.in.residual.dtype());
  if (ValuesOf(call.contract) == 2) out.mean.PerRow(call.in.x, 0, compute);
  out.rstd.PerRow(call.in.x, 0, compute);
  out.GiveTo(call.args);
  call.SendPartial(message, statistic.get(), 0);
  stack[0] = message.ReleaseSent();
  stack[1] = message.ReleaseReceived();
  int next = 2;
  for (Output* output : {&statistic, &out.y, &out.residual_out, &out.mean, &out.rstd}) stack[next++] = output->Release();
}

// Takes what was received in a turn, and returns the next one, for which it has written what is sent; 0 once y is written.
void ShardedForwardFinish(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  ForwardCall call(a);
  std::int32_t turn = a.Choice();
  Handle sent = a.Tensor(), received = a.Tensor();
  const Handle statistic_handle = a.Tensor(), y_handle = a.Tensor(), residual_out_handle = a.OptionalTensor(),
               mean_handle = a.OptionalTensor(), rstd_handle = a.OptionalTensor();
  call.Read();
  Message message(RowsOf(call.in.x), ValuesOf(call.contract), call.ranks);
  message.Take(std::move(sent), std::move(received));
  Input statistic;
  isonorm_base::ForwardOutputs<Input> out;
  statistic.Read(statistic_handle);
  out.y.Read(y_handle, Fold::kRows);
  out.residual_out.Read(residual_out_handle, Fold::kRows);
  out.mean.ReadPerRow(mean_handle, call.in.x, 1);
  out.rstd.ReadPerRow(rstd_handle, call.in.x, 1);
  out.GiveTo(call.args);
  message.CheckMarks();
  const isonorm_shard shard = message.ShardWith(statistic.get());
  Check(isonorm_forward_finish(&call.contract, call.eps, &call.args, &shard, &turn));
  if (turn != 0) call.SendPartial(message, statistic.get(), turn);
  stack[0] = static_cast<StableIValue>(static_cast<std::int64_t>(turn));
}

// Memory for the gradients, and what is sent; nothing where neither dx nor dgate is wanted.
void ShardedBackward(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  BackwardCall call(a);
  const std::int64_t needs = a.Int();
  const std::int32_t x_dtype = a.OptionalDtype().value_or(aoti_torch_dtype_float32());
  const bool unrounded = a.Bool();  // dweight and dbias are parts, to be combined
  call.Read();
  isonorm_base::BackwardOutputs<Output> out;
  const auto like = [&](Output& output, const Input& vector) {
    output.Allocate(vector.ndim(), vector.sizes(), unrounded ? call.compute() : vector.dtype());
  };
  if (needs & kX) out.dx.Like(call.in.dy, x_dtype);
  if (needs & kWeight && call.weight_handle) like(out.dweight, call.in.weight);
  if (needs & kBias && call.bias_handle) like(out.dbias, call.in.bias);
  if (needs & kGate && call.gate_handle) out.dgate.Like(call.in.gate, call.in.gate.dtype());
  out.GiveTo(call.args);
  Message message = call.MessageOf();
  if (out.dx.get() != nullptr || out.dgate.get() != nullptr) {
    message.Allocate(call.compute());
    const isonorm_shard shard = message.ShardWith(call.statistic.get());
    Check(isonorm_backward_partial(&call.contract, call.eps, &call.args, &shard));
    Mark mark;
    mark.Add(call.eps);
    mark.Add(call.name);
    for (const Input* tensor : {&call.in.dy, &call.in.weight, &call.in.bias, &call.in.dresidual, &call.in.gate})
      mark.Add(*tensor);
    message.Write(mark);
    stack[0] = message.ReleaseSent();
    stack[1] = message.ReleaseReceived();
  } else {
    stack[0] = Output().Release();
    stack[1] = Output().Release();
  }
  int next = 2;
  for (Output* output : {&out.dx, &out.dweight, &out.dbias, &out.dgate}) stack[next++] = output->Release();
}

// Writes the gradients; without anything that was received, of those that need nothing of other ranks.
void ShardedBackwardFinish(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  BackwardCall call(a);
  Handle received = a.OptionalTensor();
  const Handle dx_handle = a.OptionalTensor(), dweight_handle = a.OptionalTensor(), dbias_handle = a.OptionalTensor(),
               dgate_handle = a.OptionalTensor();
  call.Read();
  Message message = call.MessageOf();
  message.Take(Handle(), std::move(received));
  isonorm_base::BackwardOutputs<Input> out;
  out.dx.Read(dx_handle, Fold::kRows);
  out.dweight.Read(dweight_handle);
  out.dbias.Read(dbias_handle);
  out.dgate.Read(dgate_handle, Fold::kRows);
  out.GiveTo(call.args);
  const isonorm_shard shard = message.ShardWith(call.statistic.get());
  if (shard.gathered != nullptr) message.CheckMarks();
  const auto finish = [&shard](const isonorm_contract* contract, double eps, const isonorm_backward_args* own) {
    return isonorm_backward_finish(contract, eps, own, &shard);
  };
  Check(WithWorkspace(call.contract, call.eps, call.args, isonorm_backward_workspace, finish));
}

// Of a message that is not made here: the mark of what `text` says, in the last row of what is sent,
void MarkMessage(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  Handle sent_handle = a.Tensor();
  const std::string text = a.String();
  Input sent;
  sent.Read(sent_handle);
  Message message(sent.sizes()[0] - 1, sent.sizes()[1], 1);
  message.Take(std::move(sent_handle), Handle());
  Mark mark;
  mark.Add(text);
  message.Write(mark);
}

// and whether all ranks sent the same.
void CheckMessage(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  Handle received_handle = a.Tensor();
  const std::int64_t ranks = a.Int();
  Input received;
  received.Read(received_handle);
  Message message(received.sizes()[0] / ranks - 1, received.sizes()[1], ranks);
  message.Take(Handle(), std::move(received_handle));
  message.CheckMarks();
}

void CombineGradients(StableIValue* stack, std::uint64_t, std::uint64_t) {
  Arguments a(stack);
  const Handle parts_handle = a.Tensor(), gradient_handle = a.Tensor();
  const std::int64_t rows = a.Int(), part_rows = a.Int();
  Input parts, gradient;
  parts.Read(parts_handle);
  gradient.Read(gradient_handle);
  const Executor executor;
  auto args = Sized<isonorm_combine_args>();
  args.parts = parts.get();
  args.gradient = gradient.get();
  args.rows = rows;
  args.part_rows = part_rows;
  args.executor = executor.get();
  Check(isonorm_combine_gradients(&args));
}

}  // namespace isonorm_torch
