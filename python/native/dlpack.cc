// Tensors of other frameworks, by DLPack: their memory as it lies.
#include <string>

#include "array.h"

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
    return nb::cast<int>(device[0].attr("__int__")()) == ISONORM_DEVICE_CPU;
  } catch (const nb::python_error&) {
    return false;
  }
}

}  // namespace

void Array::ReadDlpack(nb::handle tensor, const char* name, Access access) {
  const std::string who(name), type = TypeOf(tensor);
  if (!nb::hasattr(tensor, "__dlpack__") || !nb::hasattr(tensor, "__dlpack_device__")) {
    throw nb::type_error((who + " is a " + type + ", which has no __dlpack__").c_str());
  }
  // A capsule of torch shares memory whether or not a gradient was to be recorded.
  const bool is_torch = nb::hasattr(tensor, "requires_grad");
  if (is_torch && nb::cast<bool>(tensor.attr("requires_grad"))) {
    throw nb::value_error(
        (who + " requires a gradient, which this call would not record: use isonorm.torch, or pass " + who + ".detach()")
            .c_str());
  }
  if (access == Access::kWrite && !is_torch) {
    throw nb::type_error((who + " is a " + type + "; only arrays of NumPy and tensors of torch are written to, others may be " +
                          "shared by their framework")
                             .c_str());
  }
  if (!InCpuMemory(tensor)) {
    throw nb::type_error((who + " is not in CPU memory, which is all that isonorm computes in").c_str());
  }
  owner_ = tensor.attr("__dlpack__")();
  // The capsule frees the tensor when it goes, since it is not renamed.
  const auto* managed = static_cast<const Managed*>(PyCapsule_GetPointer(owner_.ptr(), "dltensor"));
  if (managed == nullptr) throw nb::python_error();
  const isonorm_tensor& t = managed->tensor;
  SetDims(t.ndim, name);
  tensor_.data = t.data;
  tensor_.device = t.device;
  tensor_.dtype = t.dtype;
  tensor_.byte_offset = t.byte_offset;
  std::int64_t compact = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    shape_[i] = t.shape[i];
    strides_[i] = t.strides != nullptr ? t.strides[i] : compact;
    compact *= shape_[i];
  }
}

}  // namespace isonorm_python
