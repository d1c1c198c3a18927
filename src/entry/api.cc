// The C entry points: make a call, ask the backend of its device, run it. Nothing else happens here.
#include <cstdio>

#include "call/call.h"
#include "call/chain.h"
#include "call/contract.h"
#include "call/error.h"
#include "call/usual.h"
#include "cpu/fp_guard.h"
#include "entry/backends.h"
#include "entry/compute.h"
#include "isonorm/isonorm.h"

#define ISONORM_STRING_(x) #x
#define ISONORM_STRING(x) ISONORM_STRING_(x)

namespace isonorm {
namespace {

// Any call. Not inlined: what it needs of the stack is more than a usual call does.
[[gnu::noinline]] isonorm_status ForwardBySteps(const isonorm_contract* contract, double eps,
                                                const isonorm_forward_args* args) {
  if (HasAlso(args)) {
    return Compute<Chain>(Operation::k_forward,
                          [&](ChainBuilder& builder) { return MakeForwardChain(contract, eps, args, builder); });
  }
  return Compute(Operation::k_forward, [&](CallBuilder& builder) { return MakeForward(contract, eps, args, builder); });
}

}  // namespace
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
  return isonorm::Guarded([&]() __attribute__((always_inline)) {
    const isonorm::FpGuard guard;
    isonorm::CallRoom room;
    if (!isonorm::MakeUsualForward(contract, eps, args, &room)) return isonorm::ForwardBySteps(contract, eps, args);
    const isonorm::Backend* backend = nullptr;
    const isonorm_status status = isonorm::FindBackend(room.call.device, "x", &backend);
    return status == ISONORM_OK ? isonorm::RunChecked(*backend, isonorm::Operation::k_forward, room.call) : status;
  });
}

isonorm_status isonorm_forward_workspace(const isonorm_contract* contract, double eps, const isonorm_forward_args* args,
                                         size_t* bytes) {
  if (isonorm::HasAlso(args)) {
    return isonorm::Measure<isonorm::Chain>(
        isonorm::Operation::k_forward,
        [&](isonorm::ChainBuilder& builder) { return isonorm::MakeForwardChain(contract, eps, args, builder); }, bytes);
  }
  return isonorm::Measure(
      isonorm::Operation::k_forward,
      [&](isonorm::CallBuilder& builder) { return isonorm::MakeForward(contract, eps, args, builder); }, bytes);
}

isonorm_status isonorm_backward(const isonorm_contract* contract, double eps, const isonorm_backward_args* args) {
  if (isonorm::HasAlso(args)) {
    return isonorm::Compute<isonorm::Chain>(isonorm::Operation::k_backward, [&](isonorm::ChainBuilder& builder) {
      return isonorm::MakeBackwardChain(contract, eps, args, builder);
    });
  }
  return isonorm::Compute(isonorm::Operation::k_backward,
                          [&](isonorm::CallBuilder& builder) { return isonorm::MakeBackward(contract, eps, args, builder); });
}

isonorm_status isonorm_backward_workspace(const isonorm_contract* contract, double eps, const isonorm_backward_args* args,
                                          size_t* bytes) {
  if (isonorm::HasAlso(args)) {
    return isonorm::Measure<isonorm::Chain>(
        isonorm::Operation::k_backward,
        [&](isonorm::ChainBuilder& builder) { return isonorm::MakeBackwardChain(contract, eps, args, builder); }, bytes);
  }
  return isonorm::Measure(
      isonorm::Operation::k_backward,
      [&](isonorm::CallBuilder& builder) { return isonorm::MakeBackward(contract, eps, args, builder); }, bytes);
}

isonorm_status isonorm_double_backward(const isonorm_contract* contract, double eps, const isonorm_double_backward_args* args) {
  return isonorm::Compute(isonorm::Operation::k_double_backward, [&](isonorm::CallBuilder& builder) {
    return isonorm::MakeDoubleBackward(contract, eps, args, builder);
  });
}

isonorm_status isonorm_double_backward_workspace(const isonorm_contract* contract, double eps,
                                                 const isonorm_double_backward_args* args, size_t* bytes) {
  return isonorm::Measure(
      isonorm::Operation::k_double_backward,
      [&](isonorm::CallBuilder& builder) { return isonorm::MakeDoubleBackward(contract, eps, args, builder); }, bytes);
}

isonorm_status isonorm_rms(const isonorm_rms_args* args) {
  return isonorm::Compute(isonorm::Operation::k_rms,
                          [&](isonorm::CallBuilder& builder) { return isonorm::MakeRms(args, builder); });
}

isonorm_status isonorm_rms_backward(const isonorm_rms_backward_args* args) {
  return isonorm::Compute(isonorm::Operation::k_rms_backward,
                          [&](isonorm::CallBuilder& builder) { return isonorm::MakeRmsBackward(args, builder); });
}

isonorm_status isonorm_rms_penalty(const isonorm_rms_penalty_args* args) {
  return isonorm::Compute(isonorm::Operation::k_rms_penalty,
                          [&](isonorm::CallBuilder& builder) { return isonorm::MakeRmsPenalty(args, builder); });
}

size_t isonorm_target_count(void) { return isonorm::BackendCount(); }

const char* isonorm_target_name(size_t index) {
  return index < isonorm::BackendCount() ? isonorm::BackendAt(index).name() : nullptr;
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
  std::snprintf(text, sizeof(text), "%s@%s", isonorm::KernelName(isonorm::last.kernel), isonorm::last.backend->name());
  return text;
}

}  // extern "C"
