#include "entry/backends.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "call/error.h"
#include "cpu/backend.h"
#include "cpu/targets.h"
#include "entry/self_test.h"
#include "reference/reference.h"

namespace isonorm {
namespace {

// Null until the first computation, or while the environment names an absent target.
std::atomic<const Backend*> chosen{nullptr};
// Those of other devices than host memory.
std::atomic<const Backend*> of_device[kDeviceTypes] = {};

isonorm_status FindDevice(int32_t type, const char* name, const Backend** backend) {
  *backend = type >= 0 && type < kDeviceTypes ? of_device[static_cast<size_t>(type)].load(std::memory_order_acquire) : nullptr;
  if (*backend != nullptr) return ISONORM_OK;
  return Fail(ISONORM_ERROR_DEVICE, "%s.device.device_type is %d, but must be ISONORM_DEVICE_CPU (1).", name,
              static_cast<int>(type));
}

struct Backends {
  Backends() {
    for (; count < CpuTargetCount(); ++count) list[count] = CpuBackend(CpuTargetAt(count));
    list[count++] = CpuBackend(ReferenceTarget());
  }
  size_t count = 0;
  CpuBackend list[kMostCpuTargets + 1];
};

const Backends& All() {
  static const Backends backends;
  return backends;
}

// While the library is loaded, and there is one thread. Otherwise a fork could come while another thread makes this or what it
// is made of: the child would wait for ever for a thread that it does not have.
[[maybe_unused]] const Backends& made_at_load = All();

const Backend* BackendNamed(const char* name) {
  for (size_t i = 0; i < BackendCount(); ++i) {
    if (std::strcmp(BackendAt(i).name(), name) == 0) return &BackendAt(i);
  }
  return nullptr;
}

// One bit for each backend that was tested, and one for each that passed; a race only tests twice.
bool Passes(const Backend& backend) {
  static std::atomic<uint64_t> tested{0}, passed{0};
  uint64_t bit = 1;
  for (size_t i = 0; &BackendAt(i) != &backend; ++i) bit <<= 1;
  if ((tested.load() & bit) == 0) {
    if (PassesSelfTest(backend)) passed.fetch_or(bit);
    tested.fetch_or(bit);
  }
  return (passed.load() & bit) != 0;
}

isonorm_status Choose(const char* name, const char* named_by, const Backend** backend) {
  *backend = BackendNamed(name);
  if (*backend == nullptr) {
    return Fail(ISONORM_ERROR_TARGET, "%s is \"%s\", but must be a target of this CPU as isonorm_target_name() lists them.",
                named_by, name);
  }
  if (!Passes(**backend)) {
    return Fail(ISONORM_ERROR_SELF_TEST, "target %s computes other bits than the specification and is refused.", name);
  }
  return ISONORM_OK;
}

isonorm_status ChooseBest(const Backend** backend) {
  for (size_t i = 0; i < BackendCount(); ++i) {
    *backend = &BackendAt(i);
    if (Passes(**backend)) return ISONORM_OK;
  }
  return Fail(ISONORM_ERROR_SELF_TEST, "every target computes other bits than the specification and is refused.");
}

isonorm_status ChooseByEnvironment(const Backend** backend) {
  const char* name = std::getenv("ISONORM_TARGET");
  return name == nullptr || *name == '\0' ? ChooseBest(backend) : Choose(name, "ISONORM_TARGET", backend);
}

}  // namespace

size_t BackendCount() { return All().count; }
const Backend& BackendAt(size_t index) { return All().list[index]; }

void SetBackendOf(int32_t device_type, const Backend* backend) {
  of_device[static_cast<size_t>(device_type)].store(backend, std::memory_order_release);
}

isonorm_status FindBackend(isonorm_device device, const char* name, const Backend** backend) {
  if (__builtin_expect(device.device_type != ISONORM_DEVICE_CPU, 0)) return FindDevice(device.device_type, name, backend);
  *backend = chosen.load(std::memory_order_acquire);
  if (__builtin_expect(*backend != nullptr, 1)) return ISONORM_OK;
  const isonorm_status status = ChooseByEnvironment(backend);
  if (status != ISONORM_OK) return status;
  const Backend* none = nullptr;
  if (!chosen.compare_exchange_strong(none, *backend)) *backend = none;
  return ISONORM_OK;
}

const char* ChosenBackendName() {
  const Backend* backend = nullptr;
  return FindBackend({ISONORM_DEVICE_CPU, 0}, "", &backend) == ISONORM_OK ? backend->name() : "";
}

isonorm_status ChooseBackend(const char* name) {
  const Backend* backend = nullptr;
  const isonorm_status status = name == nullptr || *name == '\0' ? ChooseBest(&backend) : Choose(name, "name", &backend);
  if (status == ISONORM_OK) chosen.store(backend, std::memory_order_release);
  return status;
}

}  // namespace isonorm
