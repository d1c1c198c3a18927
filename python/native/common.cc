#include "common.h"

#include <algorithm>
#include <cctype>
#include <isonorm/thread_pool.hpp>
#include <string>

#include "array.h"

namespace isonorm_python {
namespace {

void Replace(std::string& text, std::size_t end, const std::string& from, const char* to) {
  for (std::size_t at = 0; (at = text.find(from, at)) < end; ++at) text.replace(at, from.size(), to);
}

// The sentence, in which a name that stands first is the one that Python knows. Chains are those of q and k.
std::string Sentence(Renamed renamed) {
  std::string text = isonorm_last_error();
  if (text.starts_with("In args")) {
    const std::size_t end = text.find(':');
    Replace(text, end, "args.also", "k");
    Replace(text, end, "args", "q");
  }
  if (renamed.from == nullptr || !text.starts_with(renamed.from)) return text;
  const std::size_t length = std::char_traits<char>::length(renamed.from);
  const auto next = length < text.size() ? static_cast<unsigned char>(text[length]) : '\0';
  if (std::isalnum(next) == 0 && next != '_') text.replace(0, length, renamed.to);
  return text;
}

// What went wrong in Python when a value was asked for its number.
[[noreturn]] void RefuseNumber(nb::handle value, const char* name, const char* wanted) {
  if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw nb::python_error();
  const bool too_large = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
  PyErr_Clear();
  if (too_large) throw nb::value_error((std::string(name) + " is too large: it has to be " + wanted + " of 64 bits").c_str());
  throw nb::type_error((std::string(name) + " is a " + TypeOf(value) + ", but has to be " + wanted).c_str());
}

}  // namespace

double Real(nb::handle value, const char* name) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (number == -1.0 && PyErr_Occurred() != nullptr) RefuseNumber(value, name, "a number");
  return number;
}

std::int64_t Integer(nb::handle value, const char* name) {
  const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
  const long long number = index.is_valid() ? PyLong_AsLongLong(index.ptr()) : -1;
  if (number == -1 && PyErr_Occurred() != nullptr) RefuseNumber(value, name, "an int");
  return number;
}

void Check(isonorm_status status, Renamed renamed) {
  switch (status) {
    case ISONORM_OK: return;
    case ISONORM_ERROR_DTYPE:
    case ISONORM_ERROR_DEVICE: throw nb::type_error(Sentence(renamed).c_str());
    case ISONORM_ERROR_TARGET:
    case ISONORM_ERROR_EXECUTOR:
    case ISONORM_ERROR_SELF_TEST:
    case ISONORM_ERROR_INTERNAL:
    case ISONORM_ERROR_STRUCT_SIZE: throw std::runtime_error(isonorm_last_error());
    default: throw nb::value_error(Sentence(renamed).c_str());
  }
}

Threads::Threads(int threads) : parallel_(threads != 1) {
  if (!parallel_) return;
  executor_ = *isonorm::thread_pool::shared().executor();
  if (threads > 0) executor_.concurrency = std::min(executor_.concurrency, threads);
}

}  // namespace isonorm_python
