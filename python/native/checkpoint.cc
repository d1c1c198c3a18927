// What the command `isonorm checkpoint` does to the tensors of a file, done to tensors in memory: its own plan and arithmetic.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "checkpoint/change.h"
#include "checkpoint/plan.h"
#include "common.h"

namespace isonorm_python {
namespace {

namespace cli = isonorm_cli;

using Texts = std::vector<std::string>;
// As stubs are to show them.
using Tensors = nb::typed<nb::list, nb::any>;
using ByPlace = nb::typed<nb::callable, nb::object(std::size_t)>;
using Done = nb::typed<nb::tuple, nb::typed<nb::list, std::size_t>, nb::str, std::size_t>;

cli::ElementType ElementOf(const std::string& type) {
  if (type == "F32") return cli::ElementType::kF32;
  if (type == "BF16") return cli::ElementType::kBf16;
  if (type == "F16") return cli::ElementType::kF16;
  return type == "F64" ? cli::ElementType::kF64 : cli::ElementType::kOther;
}

// Each is a name, a type and a shape.
std::vector<cli::TensorInfo> Infos(const Tensors& tensors) {
  std::vector<cli::TensorInfo> infos;
  for (const nb::handle tensor : tensors) {
    cli::TensorInfo info;
    info.name = nb::cast<std::string>(tensor[0]);
    info.type_name = nb::cast<std::string>(tensor[1]);
    info.type = ElementOf(info.type_name);
    info.shape = nb::cast<std::vector<std::int64_t>>(tensor[2]);
    infos.push_back(std::move(info));
  }
  return infos;
}

// The memory of an array whose values lie one after the other.
class Memory {
 public:
  Memory(nb::object object, const char* name, Access access) : object_(std::move(object)) {
    array_.Read(object_, name, access, Source::kAny);
  }
  std::byte* data() const { return static_cast<std::byte*>(array_.get()->data) + array_.get()->byte_offset; }

 private:
  nb::object object_;
  Array array_;
};

// source(i) is tensor i as it is, target(i) a new one that is to hold what becomes of it. The places of these, and of the one of
// which a copy is added under the name that follows.
Done Rewrite(const cli::CheckpointPlan& plan, const std::vector<cli::TensorInfo>& tensors, const ByPlace& source,
             const ByPlace& target) {
  std::map<std::size_t, std::unique_ptr<Memory>> inputs;
  std::vector<std::unique_ptr<Memory>> outputs;
  const auto load = [&](std::size_t i) {
    std::unique_ptr<Memory>& memory = inputs[i];
    if (!memory) memory = std::make_unique<Memory>(nb::object(source(i)), tensors[i].name.c_str(), Access::kRead);
  };
  nb::list changed;
  for (const cli::Change& change : plan.changes) {
    load(change.tensor);
    if (change.kind == cli::Change::Kind::kScale || change.kind == cli::Change::Kind::kAddBias) load(change.norm);
    if (change.kind == cli::Change::Kind::kAddBias) load(change.weight);
    outputs.push_back(
        std::make_unique<Memory>(nb::object(target(change.tensor)), tensors[change.tensor].name.c_str(), Access::kWrite));
    changed.append(change.tensor);
  }
  const cli::ReadTensor read = [&](std::size_t tensor, std::int64_t offset, std::span<std::byte> out) {
    std::memcpy(out.data(), inputs.at(tensor)->data() + offset, out.size());
  };
  {
    const nb::gil_scoped_release unlocked;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      std::byte* to = outputs[i]->data();
      cli::ComputeChange(plan.changes[i], tensors, read, [&](std::span<const std::byte> bytes) {
        std::memcpy(to, bytes.data(), bytes.size());
        to += bytes.size();
      });
    }
  }
  return nb::borrow<Done>(nb::make_tuple(changed, plan.untied, plan.untied_from));
}

template <class Work>
Done Refusing(Work work) {
  try {
    return work();
  } catch (const cli::Refusal& e) {
    if (e.kind() == cli::Refusal::Kind::kType) throw nb::type_error(e.what());
    throw nb::value_error(e.what());
  }
}

Done Recenter(Tensors tensors, ByPlace source, ByPlace target, const std::string& preset, const Texts& rows,
              const Texts& linear, const std::string& head, bool no_head, const std::string& untie) {
  return Refusing([&] {
    const std::vector<cli::TensorInfo> infos = Infos(tensors);
    const cli::RecenterOptions options = {
        .preset = preset, .rows = rows, .linear = linear, .head = head, .no_head = no_head, .untie = untie};
    return Rewrite(cli::PlanRecenter(infos, options), infos, source, target);
  });
}

Done Fold(Tensors tensors, ByPlace source, ByPlace target, const std::string& preset, const std::string& norm,
          const Texts& linear, const Texts& conv1d, std::optional<double> offset) {
  return Refusing([&] {
    const std::vector<cli::TensorInfo> infos = Infos(tensors);
    const cli::FoldOptions options = {.preset = preset, .norm = norm, .linear = linear, .conv1d = conv1d, .offset = offset};
    return Rewrite(cli::PlanFold(infos, options), infos, source, target);
  });
}

}  // namespace

void BindCheckpoint(nb::module_& m) {
  m.def("recenter", &Recenter, nb::arg("tensors"), nb::arg("source"), nb::arg("target"), nb::arg("preset"), nb::arg("rows"),
        nb::arg("linear"), nb::arg("head"), nb::arg("no_head"), nb::arg("untie"));
  m.def("fold", &Fold, nb::arg("tensors"), nb::arg("source"), nb::arg("target"), nb::arg("preset"), nb::arg("norm"),
        nb::arg("linear"), nb::arg("conv1d"), nb::arg("offset").none());
}

}  // namespace isonorm_python
