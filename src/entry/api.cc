// The C entry points: make a checked call, find its kernel, run it. Nothing else happens here.
#include <cmath>
#include <cstdio>

#include "entry/backends.h"
#include "call/call.h"
#include "call/chain.h"
#include "entry/compute.h"
#include "call/contract.h"
#include "call/error.h"
#include "cpu/fp_guard.h"
#include "cpu/gradient_sums.h"
#include "isonorm/isonorm.h"
#include "cpu/run.h"

#define ISONORM_STRING_(x) #x
#define ISONORM_STRING(x) ISONORM_STRING_(x)

namespace isonorm {
namespace {

// What the thread's last computation ran: one object, for finding it takes a call in a shared library.
struct Last {
  const Backend* backend = nullptr;
  int kernel = kKernels;
};
thread_local Last last;

// Where no weight is NaN or infinite, forward loops need not look for NaN in what they write. Looking at the weight first costs
// less than that for 16-bit types, whose loops wait for arithmetic; f32 loops wait for memory, and one row hides it all.
bool PaysToLook(const Call& call) {
  if (call.wide) return false;  // no tuned loops
  // A finite weight plus a smaller offset rounds to a finite sum.
  if (std::fabs(call.weight_offset) > 0x1p100) return false;
  if (SizeOf(call.weight_type) == 2 || call.rows >= 16) return true;
  return call.rows >= 2 && call.cols <= 1024;
}

// The kernel for the call, and what it wants to know beforehand.
inline isonorm_status Prepare(const Backend& backend, Operation operation, Call* call, int* id) {
  *id = FindKernel(backend, operation, *call);
  if (*id == kKernels) {
    return Fail(ISONORM_ERROR_INTERNAL, "target %s has no kernel for this call.", backend.name);
  }
  call->weight_finite = call->weight_type == Type::kNone ||
                        (PaysToLook(*call) && backend.all_finite(call->weight, call->weight_type, call->cols));
  return ISONORM_OK;
}

inline isonorm_status RunChecked(const Backend& backend, Operation operation, Call& call) {
  int id = 0;
  const isonorm_status status = Prepare(backend, operation, &call, &id);
  if (status != ISONORM_OK) return status;
  if (call.dweight != nullptr || call.dbias != nullptr) {
    RunWithSums(call, backend.kernels[id]);
  } else if (call.rows > 0) {
    RunAllRows(call, backend.kernels[id]);
  }
  last = {&backend, id};
  return ISONORM_OK;
}

template <class Make>
isonorm_status Compute(Make make, Operation operation) noexcept {
  return Guarded([&] {
    const FpGuard guard;  // also for what the call rounds before it computes
    Call call;
    isonorm_status status = make(&call);
    if (status != ISONORM_OK) return status;
    const Backend* backend = ChosenBackend(&status);
    return backend == nullptr ? status : RunChecked(*backend, operation, call);
  });
}

// The same for several calls in one.
template <class Make>
[[gnu::noinline]] isonorm_status ComputeChain(Make make, Operation operation) noexcept {
  return Guarded([&] {
    const FpGuard guard;
    Chain chain;
    isonorm_status status = make(&chain);
    if (status != ISONORM_OK) return status;
    const Backend* backend = ChosenBackend(&status);
    if (backend == nullptr) return status;
    int first = 0;
    for (int i = 0; i < chain.count; ++i) {
      int id = 0;
      status = Prepare(*backend, operation, &chain.parts[i].call, &id);
      if (status != ISONORM_OK) return status;
      chain.parts[i].kernel = backend->kernels[id];
      if (i == 0) first = id;
    }
    RunChain(&chain);
    last = {backend, first};
    return ISONORM_OK;
  });
}

// How much workspace the call needs that make(call) checks.
template <class C, class Make>
isonorm_status MeasureOne(size_t* bytes, Make make) noexcept {
  if (bytes == nullptr) return Fail(ISONORM_ERROR_NULL, "bytes is null, but must point to the result.");
  const FpGuard guard;
  C call;
  const isonorm_status status = make(&call);
  if (status == ISONORM_OK) *bytes = call.workspace_needed;
  return status;
}

template <class Args, class MakeChain, class Make>
isonorm_status Measure(const Args* args, size_t* bytes, MakeChain make_chain, Make make) noexcept {
  return HasAlso(args) ? MeasureOne<Chain>(bytes, make_chain) : MeasureOne<Call>(bytes, make);
}

}  // namespace

isonorm_status RunCall(const Backend& backend, Operation operation, Call& call) { return RunChecked(backend, operation, call); }

}  // namespace isonorm

extern "C" {

const char* isonorm_status_name(isonorm_status status) {
  switch (status) {
#define ISONORM_STATUS(name) \
  case name: return #name;
    ISONORM_STATUS(ISONORM_OK)
    ISONORM_STATUS(ISONORM_ERROR_NULL)
    ISONORM_STATUS(ISONORM_ERROR_STRUCT_SIZE)
    ISONORM_STATUS(ISONORM_ERROR_CONTRACT)
    ISONORM_STATUS(ISONORM_ERROR_EPS)
    ISONORM_STATUS(ISONORM_ERROR_DTYPE)
    ISONORM_STATUS(ISONORM_ERROR_RANK)
    ISONORM_STATUS(ISONORM_ERROR_SHAPE)
    ISONORM_STATUS(ISONORM_ERROR_STRIDE)
    ISONORM_STATUS(ISONORM_ERROR_OVERFLOW)
    ISONORM_STATUS(ISONORM_ERROR_WINDOW)
    ISONORM_STATUS(ISONORM_ERROR_GROUPS)
    ISONORM_STATUS(ISONORM_ERROR_OVERLAP)
    ISONORM_STATUS(ISONORM_ERROR_DEVICE)
    ISONORM_STATUS(ISONORM_ERROR_WORKSPACE)
    ISONORM_STATUS(ISONORM_ERROR_TARGET)
    ISONORM_STATUS(ISONORM_ERROR_ARGUMENT)
    ISONORM_STATUS(ISONORM_ERROR_EXECUTOR)
    ISONORM_STATUS(ISONORM_ERROR_SELF_TEST)
    ISONORM_STATUS(ISONORM_ERROR_INTERNAL)
    ISONORM_STATUS(ISONORM_ERROR_QUANTIZATION)
    ISONORM_STATUS(ISONORM_ERROR_SPLIT)
    ISONORM_STATUS(ISONORM_ERROR_ROPE)
#undef ISONORM_STATUS
  }
  return "unknown status";
}

const char* isonorm_last_error(void) { return isonorm::LastError(); }

const char* isonorm_version(void) {
  return ISONORM_STRING(ISONORM_VERSION_MAJOR) "." ISONORM_STRING(ISONORM_VERSION_MINOR) "." ISONORM_STRING(
      ISONORM_VERSION_PATCH);
}

size_t isonorm_contract_count(void) { return isonorm::NamedContractCount(); }

const char* isonorm_contract_name(size_t index) {
  return index < isonorm::NamedContractCount() ? isonorm::NamedContractAt(index).name : nullptr;
}

isonorm_status isonorm_contract_by_name(const char* name, isonorm_contract* contract, size_t size) {
  return isonorm::ContractByName(name, contract, size);
}

isonorm_status isonorm_forward(const isonorm_contract* contract, double eps, const isonorm_forward_args* args) {
  if (isonorm::HasAlso(args)) {
    return isonorm::ComputeChain([&](isonorm::Chain* chain) { return isonorm::MakeForwardChain(contract, eps, args, chain); },
                                 isonorm::Operation::k_forward);
  }
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeForward(contract, eps, args, call); },
                          isonorm::Operation::k_forward);
}

isonorm_status isonorm_forward_workspace(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                         size_t* bytes) {
  return isonorm::Measure(
      args, bytes, [&](isonorm::Chain* chain) { return isonorm::MakeForwardChain(contract, eps, args, chain); },
      [&](isonorm::Call* call) { return isonorm::MakeForward(contract, eps, args, call); });
}

isonorm_status isonorm_backward(const isonorm_contract* contract, double eps, const isonorm_backward_args* args) {
  if (isonorm::HasAlso(args)) {
    return isonorm::ComputeChain(
        [&](isonorm::Chain* chain) { return isonorm::MakeBackwardChain(contract, eps, args, false, chain); },
        isonorm::Operation::k_backward);
  }
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeBackward(contract, eps, args, false, call); },
                          isonorm::Operation::k_backward);
}

isonorm_status isonorm_backward_workspace(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                          size_t* bytes) {
  return isonorm::Measure(
      args, bytes, [&](isonorm::Chain* chain) { return isonorm::MakeBackwardChain(contract, eps, args, true, chain); },
      [&](isonorm::Call* call) { return isonorm::MakeBackward(contract, eps, args, true, call); });
}

isonorm_status isonorm_double_backward(const isonorm_contract* contract, double eps, const isonorm_double_backward_args* args) {
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeDoubleBackward(contract, eps, args, false, call); },
                          isonorm::Operation::k_double_backward);
}

isonorm_status isonorm_double_backward_workspace(const isonorm_contract* contract, double eps,
                                                 const isonorm_double_backward_args* args, size_t* bytes) {
  return isonorm::MeasureOne<isonorm::Call>(
      bytes, [&](isonorm::Call* call) { return isonorm::MakeDoubleBackward(contract, eps, args, true, call); });
}

isonorm_status isonorm_rms(const isonorm_rms_args* args) {
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeRms(args, call); }, isonorm::Operation::k_rms);
}

isonorm_status isonorm_rms_backward(const isonorm_rms_backward_args* args) {
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeRmsBackward(args, call); },
                          isonorm::Operation::k_rms_backward);
}

isonorm_status isonorm_rms_penalty(const isonorm_rms_penalty_args* args) {
  return isonorm::Compute([&](isonorm::Call* call) { return isonorm::MakeRmsPenalty(args, call); },
                          isonorm::Operation::k_rms_penalty);
}

size_t isonorm_target_count(void) { return isonorm::BackendCount(); }

const char* isonorm_target_name(size_t index) {
  return index < isonorm::BackendCount() ? isonorm::BackendAt(index).name : nullptr;
}

const char* isonorm_target(void) { return isonorm::ChosenBackendName(); }

isonorm_status isonorm_set_target(const char* name) { return isonorm::ChooseBackend(name); }

size_t isonorm_kernel_count(void) { return isonorm::kKernels; }

const char* isonorm_kernel_name(size_t index) {
  return index < isonorm::kKernels ? isonorm::KernelName(static_cast<int>(index)) : nullptr;
}

const char* isonorm_last_kernel(void) {
  thread_local char text[96] = "";
  if (isonorm::last.backend == nullptr) return "";
  std::snprintf(text, sizeof(text), "%s@%s", isonorm::KernelName(isonorm::last.kernel), isonorm::last.backend->name);
  return text;
}

}  // extern "C"
