// Norms of a few rows of torch's tensors without torch's dispatcher, whose code, which is cold between the layers of a model,
// takes several times as long as the row. Tensors are read by DLPack's C exchange API. What is out of the ordinary in any way
// is left to the operators of isonorm.torch, errors too: then the result is None, and nothing has been done.
#include <cstddef>
#include <cstdint>
#include <string>

#include "array.h"
#include "common.h"

namespace isonorm_python {
namespace {

// Of DLPack 1.3 (github.com/dmlc/dlpack); DLTensor is isonorm_tensor.
struct DlpackExchange {
  std::uint32_t major_version, minor_version;
  DlpackExchange* previous;
  void* allocate;
  void* managed_from_object;
  void* managed_to_object;
  int (*tensor_from_object)(void* object, isonorm_tensor* tensor);  // borrows; -1 and a Python error where it cannot
  void* current_stream;
};

constexpr std::uint32_t kDlpackMajor = 1;
// Above this, threads and the interpreter's lock are worth the operators' way.
constexpr std::int64_t kMaxValues = 1 << 15;

// What AttachTorch() was given; they live as long as the process.
struct Torch {
  PyTypeObject *tensor = nullptr, *parameter = nullptr;
  nb::handle empty_like, is_neg;
  int (*read)(void* object, isonorm_tensor* tensor) = nullptr;
};
Torch torch;

// A tensor as it lies.
class Tensor {
 public:
  // False unless it is an ordinary one: compact, with 1 to 32,768 values, in this CPU's memory.
  bool Read(nb::handle object) {
    if (Py_TYPE(object.ptr()) != torch.tensor && Py_TYPE(object.ptr()) != torch.parameter) return false;
    if (torch.read == nullptr || torch.read(object.ptr(), &tensor_) != 0) {
      PyErr_Clear();
      return false;
    }
    // An address may say less than the tensor: a lazy negation is seen by operators only.
    if (tensor_.device.device_type != ISONORM_DEVICE_CPU || tensor_.data == nullptr || nb::cast<bool>(torch.is_neg(object))) {
      return false;
    }
    if (tensor_.ndim < 1 || tensor_.ndim > Array::kMaxDims) return false;
    size_ = 1;
    for (int i = tensor_.ndim - 1; i >= 0; --i) {
      const std::int64_t length = tensor_.shape[i];
      // Those of dimensions of one value too, which results would have.
      if (tensor_.strides != nullptr && tensor_.strides[i] != size_) return false;
      if (length > kMaxValues) return false;
      size_ *= length;
      if (size_ < 1 || size_ > kMaxValues) return false;
    }
    tensor_.strides = nullptr;
    return true;
  }
  // As Read(); None is an absent tensor.
  bool ReadOptional(nb::handle object) { return object.is_none() || Read(object); }

  // Null if absent.
  const isonorm_tensor* get() const { return size_ > 0 ? &tensor_ : nullptr; }

 private:
  isonorm_tensor tensor_{};
  std::int64_t size_ = 0;
};

// A fresh tensor of the shape and type of another, if it is wanted.
struct Result {
  nb::object object = nb::none();
  Tensor tensor;

  bool Make(bool wanted, nb::handle like) {
    if (!wanted || like.is_none()) return true;
    object = torch.empty_like(like);
    return tensor.Read(object);
  }
};

// Contracts that have no name go by the operators.
bool ByName(const std::string& name, isonorm_contract& contract) {
  return name.find('\0') == std::string::npos &&
         isonorm_contract_by_name(name.c_str(), &contract, sizeof contract) == ISONORM_OK;
}

void AttachTorch(nb::handle tensor, nb::handle parameter, nb::handle exchange, nb::handle empty_like) {
  const auto* api = static_cast<const DlpackExchange*>(PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
  if (api == nullptr) throw nb::python_error();
  if (api->major_version != kDlpackMajor) return;
  torch.tensor = reinterpret_cast<PyTypeObject*>(nb::object(nb::borrow(tensor)).release().ptr());
  torch.parameter = reinterpret_cast<PyTypeObject*>(nb::object(nb::borrow(parameter)).release().ptr());
  torch.empty_like = nb::object(nb::borrow(empty_like)).release();
  torch.is_neg = nb::object(tensor.attr("is_neg")).release();
  torch.read = api->tensor_from_object;
}

nb::object TensorForward(nb::handle x, nb::handle weight, nb::handle bias, double eps, const std::string& name) {
  Tensor ax, aweight, abias;
  isonorm_contract contract = Sized<isonorm_contract>();
  if (!ax.Read(x) || !aweight.ReadOptional(weight) || !abias.ReadOptional(bias) || !ByName(name, contract)) {
    return nb::none();
  }
  Result y;
  if (!y.Make(true, x)) return nb::none();
  auto args = Sized<isonorm_forward_args>();
  args.x = ax.get();
  args.weight = aweight.get();
  args.bias = abias.get();
  args.y = y.tensor.get();
  return isonorm_forward(&contract, eps, &args) == ISONORM_OK ? y.object : nb::none();
}

nb::object TensorBackward(nb::handle dy, nb::handle x, nb::handle weight, nb::handle bias, bool need_x, bool need_weight,
                          bool need_bias, double eps, const std::string& name) {
  Tensor ady, ax, aweight, abias;
  isonorm_contract contract = Sized<isonorm_contract>();
  if (!ady.Read(dy) || !ax.Read(x) || !aweight.ReadOptional(weight) || !abias.ReadOptional(bias) || !ByName(name, contract)) {
    return nb::none();
  }
  Result dx, dweight, dbias;
  if (!dx.Make(need_x, x) || !dweight.Make(need_weight, weight) || !dbias.Make(need_bias, bias)) return nb::none();
  auto args = Sized<isonorm_backward_args>();
  args.dy = ady.get();
  args.x = ax.get();
  args.weight = aweight.get();
  args.bias = abias.get();
  args.dx = dx.tensor.get();
  args.dweight = dweight.tensor.get();
  args.dbias = dbias.tensor.get();
  std::size_t size = 0;
  if (isonorm_backward_workspace(&contract, eps, &args, &size) != ISONORM_OK) return nb::none();
  Workspace workspace;
  workspace.Reserve(size);
  args.workspace = workspace.data();
  args.workspace_size = workspace.size();
  if (isonorm_backward(&contract, eps, &args) != ISONORM_OK) return nb::none();
  return nb::make_tuple(dx.object, dweight.object, dbias.object);
}

}  // namespace

void BindTensors(nb::module_& m) {
  m.def("attach_torch", &AttachTorch, nb::arg("tensor"), nb::arg("parameter"), nb::arg("exchange"), nb::arg("empty_like"));
  m.def("tensor_forward", &TensorForward, nb::arg("x").none(), nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("eps"),
        nb::arg("contract"));
  m.def("tensor_backward", &TensorBackward, nb::arg("dy").none(), nb::arg("x").none(), nb::arg("weight").none(),
        nb::arg("bias").none(), nb::arg("need_x"), nb::arg("need_weight"), nb::arg("need_bias"), nb::arg("eps"),
        nb::arg("contract"));
}

}  // namespace isonorm_python
