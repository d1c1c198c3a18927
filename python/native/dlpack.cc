// Tensors of other frameworks, by DLPack: their memory as it lies.
#include <string>

#include "array.h"
#include "common.h"

namespace isonorm_python {
namespace {

// Of DLPack 0.8 and later (github.com/dmlc/dlpack), whose DLTensor is isonorm_tensor.
struct Managed {
  isonorm_tensor tensor;
  void* manager;
  void (*deleter)(Managed*);
};

// Frameworks refuse to say where tensors without memory are.
bool InCpuMemory(nb::handle tensor) {
  try {
    const nb::object device = tensor.attr("__dlpack_device__")();
    return Integer(device[0].attr("__int__")(), "device") == ISONORM_DEVICE_CPU;
  } catch (const nb::builtin_exception&) {
    return false;
  } catch (const nb::python_error& e) {
    if (!e.matches(PyExc_Exception)) throw;
    return false;
  }
}

// False for what cannot tell.
bool IsTrue(nb::handle object) {
  const int is_true = PyObject_IsTrue(object.ptr());
  if (is_true < 0 && PyErr_ExceptionMatches(PyExc_Exception) == 0) throw nb::python_error();
  if (is_true < 0) PyErr_Clear();
  return is_true > 0;
}

nb::object Capsule(nb::handle tensor, const char* name) {
  try {
    return tensor.attr("__dlpack__")();
  } catch (nb::python_error& e) {
    if (!e.matches(PyExc_Exception)) throw;
    nb::raise_from(e, PyExc_TypeError, "%s is a %s that gives no DLPack tensor: %s", name, TypeOf(tensor).c_str(),
                   nb::str(e.value()).c_str());
  }
}

}  // namespace

void Array::ReadDlpack(nb::handle tensor, const char* name, Access access) {
  const std::string who(name), type = TypeOf(tensor);
  if (!nb::hasattr(tensor, "__dlpack__") || !nb::hasattr(tensor, "__dlpack_device__")) {
    throw nb::type_error((who + " is a " + type + ", which has no __dlpack__").c_str());
  }
  // A capsule of torch shares memory whether or not a gradient was to be recorded, and whatever the sign that its reader is to
  // give the values.
  const bool is_torch = nb::hasattr(tensor, "requires_grad");
  if (is_torch && IsTrue(tensor.attr("requires_grad"))) {
    throw nb::value_error(
        (who + " requires a gradient, which this call would not record: use isonorm.torch, or pass " + who + ".detach()")
            .c_str());
  }
  if (is_torch && nb::hasattr(tensor, "is_neg") && IsTrue(tensor.attr("is_neg")())) {
    throw nb::value_error((who + " is stored with the other sign: pass " + who + ".resolve_neg()").c_str());
  }
  if (access == Access::kWrite && !is_torch) {
    throw nb::type_error((who + " is a " + type + "; only arrays of NumPy and tensors of torch are written to, others may be " +
                          "shared by their framework")
                             .c_str());
  }
  if (!InCpuMemory(tensor)) {
    throw nb::type_error((who + " is not in CPU memory, which is all that isonorm computes in").c_str());
  }
  owner_ = Capsule(tensor, name);
  if (PyCapsule_IsValid(owner_.ptr(), "dltensor") == 0) {
    throw nb::type_error((who + ".__dlpack__() gave a " + TypeOf(owner_) + ", but has to give a fresh DLPack tensor").c_str());
  }
  // The capsule frees the tensor when it goes, since it is not renamed.
  const auto* managed = static_cast<const Managed*>(PyCapsule_GetPointer(owner_.ptr(), "dltensor"));
  const isonorm_tensor& t = managed->tensor;
  SetDims(t.ndim, name);
  tensor_.data = t.data;
  tensor_.device = t.device;
  tensor_.dtype = t.dtype;
  tensor_.byte_offset = t.byte_offset;
  std::uint64_t compact = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    shape_[i] = t.shape[i];
    strides_[i] = t.strides != nullptr ? t.strides[i] : static_cast<std::int64_t>(compact);
    compact *= static_cast<std::uint64_t>(shape_[i]);
  }
}

}  // namespace isonorm_python
