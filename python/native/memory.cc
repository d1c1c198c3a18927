#include "memory.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <cstring>
#include <vector>

#include "common.h"

namespace isonorm_python {
namespace {

void* Allocate(void*, std::size_t size) { return TakeBlock(size); }
void* AllocateZeros(void*, std::size_t count, std::size_t size) {
  void* const block = size != 0 && count > SIZE_MAX / size ? nullptr : TakeBlock(count * size);
  return block == nullptr ? nullptr : std::memset(block, 0, count * size);
}
void* Reallocate(void*, void* block, std::size_t size) { return ResizeBlock(block, size); }
void Free(void*, void* block, std::size_t) { GiveBlock(block); }

// NumPy keeps it with each array that is made while it is set, and frees the array's memory by it.
PyDataMem_Handler handler = {"isonorm", 1, {nullptr, &Allocate, &AllocateZeros, &Reallocate, &Free}};
PyObject* handler_capsule = nullptr;

class WithBlocks {
 public:
  WithBlocks() : before_(PyDataMem_SetHandler(handler_capsule)) {
    if (before_ == nullptr) throw nb::python_error();
  }
  ~WithBlocks() {
    Py_XDECREF(PyDataMem_SetHandler(before_));
    Py_DECREF(before_);
  }
  WithBlocks(const WithBlocks&) = delete;
  WithBlocks& operator=(const WithBlocks&) = delete;

 private:
  PyObject* before_;
};

// numpy.empty() in one of the blocks: an array like any other, that owns its memory.
nb::object Empty(nb::tuple shape, nb::handle dtype) {
  std::vector<npy_intp> dims;
  for (const nb::handle size : shape) dims.push_back(nb::cast<npy_intp>(size));
  PyArray_Descr* descriptor = nullptr;
  if (PyArray_DescrConverter(dtype.ptr(), &descriptor) == 0) throw nb::python_error();
  const WithBlocks with_blocks;
  PyObject* const array = PyArray_Empty(static_cast<int>(dims.size()), dims.data(), descriptor, 0);
  if (array == nullptr) throw nb::python_error();
  return nb::steal(array);
}

}  // namespace

void BindMemory(nb::module_& m) {
  if (PyArray_API == nullptr && _import_array() < 0) throw nb::python_error();
  handler_capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
  if (handler_capsule == nullptr) throw nb::python_error();
  m.def("empty", &Empty, nb::arg("shape"), nb::arg("dtype"),
        nb::sig("def empty(shape: tuple[int, ...], dtype: object) -> numpy.ndarray"));
}

}  // namespace isonorm_python
