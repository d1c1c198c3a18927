#include "array.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>

namespace isonorm_python {
namespace {

struct Named {
  const char* name;
  isonorm_dtype dtype;
};
constexpr Named kNames[] = {
    {"float32", ISONORM_F32},
    {"bfloat16", ISONORM_BF16},
    {"float16", ISONORM_F16},
    {"float64", ISONORM_F64},
    {"int8", ISONORM_I8},
    {"int32", ISONORM_I32},
    {"int64", ISONORM_I64},
    {"uint8", ISONORM_U8},
    {"float8_e4m3fn", ISONORM_E4M3},
    {"float8_e5m2", ISONORM_E5M2},
    {"float8_e8m0fnu", ISONORM_E8M0},
};

PyObject* ndarray = nullptr;

// Descriptors of ml_dtypes that were seen, by their place in kNames: looking at a name costs more than a short row.
std::atomic<PyObject*> seen[std::size(kNames)];

bool IsArray(nb::handle object) {
  if (Py_TYPE(object.ptr()) == reinterpret_cast<PyTypeObject*>(ndarray)) return true;
  const int is_array = PyObject_IsInstance(object.ptr(), ndarray);
  if (is_array < 0) throw nb::python_error();
  return is_array != 0;
}

// Of types that NumPy itself has.
isonorm_dtype BuiltIn(int type_num) {
  switch (type_num) {
    case NPY_FLOAT32: return ISONORM_F32;
    case NPY_FLOAT64: return ISONORM_F64;
    case NPY_FLOAT16: return ISONORM_F16;
    case NPY_INT8: return ISONORM_I8;
    case NPY_UINT8: return ISONORM_U8;
    case NPY_INT32: return ISONORM_I32;
    case NPY_INT64: return ISONORM_I64;
    default: return {};
  }
}

// Of types of ml_dtypes, whose numbers are given out as they are registered; no bits for any other type.
isonorm_dtype UserDefined(PyArray_Descr* descriptor) {
  auto* object = reinterpret_cast<PyObject*>(descriptor);
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (seen[i].load(std::memory_order_acquire) == object) return kNames[i].dtype;
  }
  const std::string name = nb::cast<std::string>(nb::handle(object).attr("name"));
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name != kNames[i].name) continue;
    PyObject* none = nullptr;
    if (seen[i].compare_exchange_strong(none, object)) Py_INCREF(object);  // kept: its address stays its own
    return kNames[i].dtype;
  }
  return {};
}

isonorm_dtype DtypeOf(PyArrayObject* array) {
  if (!PyArray_ISNBO(PyArray_DESCR(array)->byteorder)) return {};
  const int type_num = PyArray_DESCR(array)->type_num;
  return type_num < NPY_USERDEF ? BuiltIn(type_num) : UserDefined(PyArray_DESCR(array));
}

}  // namespace

std::string TypeOf(nb::handle object) {
  PyTypeObject* type = Py_TYPE(object.ptr());
  const nb::object module = nb::getattr(nb::handle(reinterpret_cast<PyObject*>(type)), "__module__", nb::none());
  const std::string name = nb::cast<std::string>(nb::handle(reinterpret_cast<PyObject*>(type)).attr("__name__"));
  const std::string home = nb::isinstance<nb::str>(module) ? nb::cast<std::string>(module) : "";
  return home.empty() || home == "builtins" ? name : home + "." + name;
}

void RefuseType(nb::handle object, const char* name) {
  const std::string type = TypeOf(object);
  if (type.ends_with("KerasTensor")) {  // in the words of isonorm._arrays.check_real
    throw nb::type_error((std::string(name) + " is a symbolic tensor of Keras, which isonorm.keras.RMSNormalization and " +
                          "LayerNormalization take")
                             .c_str());
  }
  std::string advice = "numpy.asarray() makes one";
  if (std::string_view(name) == "weight" && (PyTuple_Check(object.ptr()) || PyLong_Check(object.ptr()))) {
    advice = "it comes second, where torch.nn.functional has normalized_shape";
  } else if (type.starts_with("torch.")) {
    advice = "isonorm.torch takes torch's tensors, isonorm.into those of any framework in CPU memory";
  } else if (nb::hasattr(object, "__dlpack__")) {
    advice = "isonorm.into takes tensors of any framework in CPU memory";
  }
  throw nb::type_error((std::string(name) + " is a " + type + ", but has to be a numpy.ndarray: " + advice).c_str());
}

void LoadNumPy() { ndarray = nb::object(nb::module_::import_("numpy").attr("ndarray")).release().ptr(); }

const char* DtypeName(isonorm_dtype dtype) {
  for (const Named& n : kNames) {
    if (n.dtype.code == dtype.code && n.dtype.bits == dtype.bits) return n.name;
  }
  return "";
}

std::int64_t Array::size() const {
  if (!present_) return 0;
  std::uint64_t size = 1;  // of an array of no values, other sizes may be as large as they like
  for (int i = 0; i < tensor_.ndim; ++i) size *= static_cast<std::uint64_t>(shape_[i]);
  return static_cast<std::int64_t>(size);
}

void Array::SetDims(int ndim, const char* name) {
  if (ndim < least_dims_ || ndim > kMaxDims) {
    throw nb::value_error((std::string(name) + " has " + std::to_string(ndim) + " dimensions; 1 to 7 are allowed").c_str());
  }
  tensor_.ndim = ndim;
  tensor_.shape = shape_;
  tensor_.strides = strides_;
}

void Array::Read(nb::handle array, const char* name, Access access, Source source) {
  if (array.is_none()) return;
  if (source == Source::kAny && !IsArray(array)) {
    ReadDlpack(array, name, access);
  } else {
    ReadNumPy(array, name, access);
  }
  if (tensor_.ndim == 0) {
    tensor_.ndim = 1;
    shape_[0] = 1;
  }
  std::uint64_t compact = 1;
  for (int i = tensor_.ndim - 1; i >= 0; --i) {
    if (shape_[i] <= 1) strides_[i] = static_cast<std::int64_t>(compact);
    compact *= static_cast<std::uint64_t>(std::max<std::int64_t>(shape_[i], 1));
  }
  present_ = true;
}

void Array::ReadPerRow(nb::handle array, const char* name, const Array& x, Access access, Source source) {
  if (x.IsVector()) least_dims_ = 0;
  Read(array, name, access, source);
}

void Array::ReadNumPy(nb::handle array, const char* name, Access access) {
  if (!IsArray(array)) RefuseType(array, name);
  if (Py_TYPE(array.ptr()) != reinterpret_cast<PyTypeObject*>(ndarray) && nb::hasattr(array, "mask")) {
    throw nb::type_error(
        (std::string(name) + " is a masked array, and isonorm knows no masks: fill it, as " + name + ".filled(0)").c_str());
  }
  auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
  tensor_.dtype = DtypeOf(a);
  if (tensor_.dtype.bits == 0) {
    const std::string type = nb::cast<std::string>(array.attr("dtype").attr("__str__")());
    throw nb::type_error((std::string(name) + " has dtype " + type +
                          "; isonorm takes float32, float64, float16, and bfloat16 of " +
                          "ml_dtypes, in the byte order of this machine")
                             .c_str());
  }
  if (access == Access::kWrite && (PyArray_FLAGS(a) & NPY_ARRAY_WRITEABLE) == 0) {
    throw nb::value_error((std::string(name) + " is read-only, and an output has to be writable").c_str());
  }
  SetDims(PyArray_NDIM(a), name);
  tensor_.data = PyArray_DATA(a);
  tensor_.device = {ISONORM_DEVICE_CPU, 0};
  tensor_.byte_offset = 0;
  const npy_intp bytes = tensor_.dtype.bits / 8;
  for (int i = 0; i < tensor_.ndim; ++i) {
    shape_[i] = PyArray_DIMS(a)[i];
    const npy_intp stride = PyArray_STRIDES(a)[i];
    if (shape_[i] > 1 && stride % bytes != 0) {
      throw nb::value_error((std::string(name) + " has a stride of " + std::to_string(stride) +
                             " bytes, which is no multiple of " + "its " + std::to_string(bytes) +
                             " bytes for each value: copy it")
                                .c_str());
    }
    strides_[i] = stride / bytes;
  }
}

}  // namespace isonorm_python
