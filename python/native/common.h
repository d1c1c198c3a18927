// What every call from Python needs: contract, threads, errors, and the interpreter's lock.
#pragma once

#include <isonorm/isonorm.h>
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace isonorm_python {

namespace nb = nanobind;

// What a tensor of the C ABI is called in Python, where that is another name.
struct Renamed {
  const char* from;
  const char* to;
};

// A status as ValueError, TypeError or RuntimeError with the library's sentence.
void Check(isonorm_status status, Renamed renamed = {});

// A number as users give it; TypeError for anything else, and ValueError for one that is too large, which name the argument.
double Real(nb::handle value, const char* name);
std::int64_t Integer(nb::handle value, const char* name);

// The bytes of an isonorm_contract, as contract() and contract_by_name() make them.
inline isonorm_contract ContractOf(nb::handle bytes) {
  isonorm_contract contract;
  if (!PyBytes_Check(bytes.ptr()) || PyBytes_Size(bytes.ptr()) != sizeof contract) {
    throw nb::type_error("a packed contract was expected");
  }
  std::memcpy(&contract, PyBytes_AsString(bytes.ptr()), sizeof contract);
  return contract;
}

// At most `threads` of the process's pool; 0: all of them.
class Threads {
 public:
  explicit Threads(int threads);
  const isonorm_executor* get() const { return parallel_ ? &executor_ : nullptr; }

 private:
  bool parallel_;
  isonorm_executor executor_;
};

// Runs `call`, which returns a status, without the interpreter's lock if there are enough values to be worth it: a thread that
// gives the lock away gets it back after a switch interval, 5 ms, where another one computes.
template <class Call>
void Run(std::int64_t values, const Call& call, Renamed renamed = {}) {
  isonorm_status status;
  if (values >= (1 << 15)) {
    const nb::gil_scoped_release unlocked;
    status = call();
  } else {
    status = call();
  }
  Check(status, renamed);
}

// Memory whose values nobody needs.
class Workspace {
 public:
  void Reserve(std::size_t size) {
    if (size > 0) bytes_ = std::make_unique_for_overwrite<std::byte[]>(size);
    size_ = size;
  }
  void* data() const { return bytes_.get(); }
  std::size_t size() const { return size_; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_ = 0;
};

void BindCalls(nb::module_& m);
void BindVectors(nb::module_& m);
void BindParallel(nb::module_& m);
void BindInfo(nb::module_& m);
void BindStats(nb::module_& m);
void BindCheckpoint(nb::module_& m);
void BindMemory(nb::module_& m);
void BindTensors(nb::module_& m);

}  // namespace isonorm_python
