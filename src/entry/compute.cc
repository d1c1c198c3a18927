#include "entry/compute.h"

namespace isonorm {

constinit thread_local Last last;

namespace {

isonorm_status WorkspaceOf(const Backend& backend, Operation operation, const Call& call, size_t* bytes) {
  if (backend.Workspace(operation, call, bytes)) return ISONORM_OK;
  return Fail(ISONORM_ERROR_OVERFLOW,
              "the workspace spans more bytes than int64_t can count; the sizes of the tensors must fit.");
}

}  // namespace

isonorm_status CheckWorkspace(const Backend& backend, Operation operation, CallBuilder& builder, size_t* measured) {
  size_t needed = 0;
  const isonorm_status status = WorkspaceOf(backend, operation, builder.call(), &needed);
  if (status != ISONORM_OK) return status;
  if (measured == nullptr) return builder.CheckWorkspace(needed);
  *measured = needed;
  return ISONORM_OK;
}

isonorm_status CheckWorkspace(const Backend& backend, Operation operation, ChainBuilder& builder, size_t* measured) {
  size_t needed[kMaxChain], total = 0;
  for (int i = 0; i < builder.chain().count; ++i) {
    const isonorm_status status = WorkspaceOf(backend, operation, builder.chain().calls[i], &needed[i]);
    if (status != ISONORM_OK) return status;
    if (__builtin_add_overflow(total, needed[i], &total)) {
      return Fail(ISONORM_ERROR_OVERFLOW, "the workspace of all structures spans more bytes than size_t can count.");
    }
  }
  if (measured == nullptr) return total == 0 ? ISONORM_OK : builder.CheckWorkspace(needed, total);
  *measured = total;
  return ISONORM_OK;
}

[[gnu::noinline]] isonorm_status RunChecked(const Backend& backend, Operation operation, Chain& chain) {
  int kernel = kKernels;
  const isonorm_status status = backend.RunChain(operation, chain, &kernel);
  if (status == ISONORM_OK) last = {&backend, kernel};
  return status;
}

}  // namespace isonorm
