// Contracts as bytes, and what the library says of itself.
#include <isonorm/thread_pool.hpp>

#include <string>

#include "array.h"
#include "common.h"

namespace isonorm_python {
namespace {

nb::bytes Pack(const isonorm_contract& contract) { return nb::bytes(&contract, sizeof contract); }

nb::bytes PackContract(int statistic, int eps_place, int scaled_rounding, int sum_rounding, int gate_place, int gate_function,
                       int rotation_rounding, double weight_offset) {
  return Pack({sizeof(isonorm_contract), statistic, eps_place, scaled_rounding, sum_rounding, gate_place, gate_function,
               rotation_rounding, 0, weight_offset});
}

// The fields of pack_contract, in its order.
nb::typed<nb::tuple, int, int, int, int, int, int, int, double> NamedContract(nb::str name) {
  isonorm_contract c;
  Check(isonorm_contract_by_name(name.c_str(), &c, sizeof c));
  return nb::make_tuple(c.statistic, c.eps_place, c.scaled_rounding, c.sum_rounding, c.gate_place, c.gate_function,
                        c.rotation_rounding, c.weight_offset);
}

template <class Name>
nb::typed<nb::list, nb::str> Names(std::size_t count, const Name& name) {
  nb::typed<nb::list, nb::str> names;
  for (std::size_t i = 0; i < count; ++i) names.append(nb::str(name(i)));
  return names;
}

}  // namespace

void BindInfo(nb::module_& m) {
  m.def(
      "check_array",
      [](nb::handle value, const char* name) {
        if (value.is_none()) RefuseType(value, name);
        Array().Read(value, name);
      },
      nb::arg("value").none(), nb::arg("name"));
  m.def(
      "integer", [](nb::handle value, const char* name) { return Integer(value, name); }, nb::arg("value").none(),
      nb::arg("name"));
  m.def(
      "real", [](nb::handle value, const char* name) { return Real(value, name); }, nb::arg("value").none(), nb::arg("name"));
  m.def("pack_contract", &PackContract, nb::arg("statistic"), nb::arg("eps_place"), nb::arg("scaled_rounding"),
        nb::arg("sum_rounding"), nb::arg("gate_place"), nb::arg("gate_function"), nb::arg("rotation_rounding"),
        nb::arg("weight_offset"));
  m.def("contract", &NamedContract, nb::arg("name"));
  m.def("contracts", [] { return Names(isonorm_contract_count(), isonorm_contract_name); });
  m.def("targets", [] { return Names(isonorm_target_count(), isonorm_target_name); });
  m.def("kernels", [] { return Names(isonorm_kernel_count(), isonorm_kernel_name); });
  m.def("target", [] { return nb::str(isonorm_target()); });
  m.def(
      "set_target", [](nb::str name) { Check(isonorm_set_target(name.c_str())); }, nb::arg("name"));
  m.def("last_kernel", [] { return nb::str(isonorm_last_kernel()); });
  m.def("version", [] { return nb::str(isonorm_version()); });
  m.def("available_cpus", [] { return isonorm::thread_pool::available_cpus(); });
}

}  // namespace isonorm_python
