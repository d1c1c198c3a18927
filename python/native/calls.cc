// forward, backward and double_backward.
#include <string>

#include "arguments.h"
#include "common.h"

namespace isonorm_python {
namespace {

constexpr Py_ssize_t kMaxLinks = 4;
constexpr Renamed kOut = {"y", "out"}, kDx = {"dx", "out"};

// The usual call, without a tuple: y of x and a weight. False, and nothing is done, where an input has to be copied first:
// a weight of float64 beside another x, or values of a row that do not lie side by side.
bool ForwardPlain(nb::handle contract_bytes, nb::handle eps, nb::handle x, nb::handle weight, nb::handle out, int threads) {
  Array ax, aweight, ay;
  ax.Read(x, "x");
  aweight.Read(weight, "weight");
  ay.Read(out, "out", Access::kWrite);
  const isonorm_contract contract = ContractOf(contract_bytes);
  const Threads executor(threads);
  auto args = Sized<isonorm_forward_args>();
  args.x = ax.get();
  args.weight = aweight.get();
  args.y = ay.get();
  args.executor = executor.get();
  if ((aweight.bits() == 64) != (ax.bits() == 64) && aweight.bits() != 0) return false;
  if (!ax.dense() || !aweight.dense()) return false;
  const double number = Real(eps, "eps");
  Run(
      ax.size(), [&] { return isonorm_forward(&contract, number, &args); }, kOut);
  return true;
}

// Reads the links of a chain; the first one has the executor, and its `also` leads to the others.
template <class Link>
class Chain {
 public:
  Chain(nb::handle links, const isonorm_executor* executor, Source source) {
    const Py_ssize_t count = PyTuple_Check(links.ptr()) ? PyTuple_Size(links.ptr()) : 0;
    if (count < 1 || count > kMaxLinks) throw nb::value_error("1 to 4 tensors can be normalised in one call");
    for (Py_ssize_t i = 0; i < count; ++i) {
      try {
        links_[i].Read(PyTuple_GetItem(links.ptr(), i), source);
      } catch (const nb::builtin_exception& e) {
        if (count == 1) throw;
        throw nb::builtin_exception(e.type(), (std::string(i == 0 ? "In q: " : "In k: ") + e.what()).c_str());
      }
      if constexpr (requires { links_[i].args.also; }) {
        if (i > 0) links_[i - 1].args.also = &links_[i].args;
      }
      values_ += links_[i].x.size();
    }
    links_[0].args.executor = executor;
  }
  auto& args() { return links_[0].args; }
  std::int64_t values() const { return values_; }

 private:
  Link links_[kMaxLinks];
  std::int64_t values_ = 0;
};

void Forward(nb::handle contract_bytes, nb::handle eps_number, int threads, nb::handle links, bool any) {
  const isonorm_contract contract = ContractOf(contract_bytes);
  const Threads executor(threads);
  Chain<ForwardLink> chain(links, executor.get(), any ? Source::kAny : Source::kNumPy);
  const double eps = Real(eps_number, "eps");
  Run(
      chain.values(), [&] { return isonorm_forward(&contract, eps, &chain.args()); }, kOut);
}

void Backward(nb::handle contract_bytes, nb::handle eps_number, int threads, nb::handle links) {
  const isonorm_contract contract = ContractOf(contract_bytes);
  const Threads executor(threads);
  Chain<BackwardLink> chain(links, executor.get(), Source::kNumPy);
  const double eps = Real(eps_number, "eps");
  std::size_t size = 0;
  Check(isonorm_backward_workspace(&contract, eps, &chain.args(), &size), kDx);
  Workspace workspace;
  workspace.Reserve(size);
  chain.args().workspace = workspace.data();
  chain.args().workspace_size = workspace.size();
  Run(
      chain.values(), [&] { return isonorm_backward(&contract, eps, &chain.args()); }, kDx);
}

void DoubleBackward(nb::handle contract_bytes, nb::handle eps_number, int threads, nb::handle tuple) {
  const isonorm_contract contract = ContractOf(contract_bytes);
  const Threads executor(threads);
  DoubleBackwardLink link;
  link.Read(tuple);
  const double eps = Real(eps_number, "eps");
  link.args.executor = executor.get();
  std::size_t size = 0;
  Check(isonorm_double_backward_workspace(&contract, eps, &link.args, &size));
  Workspace workspace;
  workspace.Reserve(size);
  link.args.workspace = workspace.data();
  link.args.workspace_size = workspace.size();
  Run(link.x.size(), [&] { return isonorm_double_backward(&contract, eps, &link.args); });
}

}  // namespace

void BindCalls(nb::module_& m) {
  m.def("forward_plain", &ForwardPlain, nb::arg("contract"), nb::arg("eps").none(), nb::arg("x"), nb::arg("weight").none(),
        nb::arg("out"), nb::arg("threads"));
  m.def("forward", &Forward, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("links"),
        nb::arg("any") = false);
  m.def("backward", &Backward, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("links"));
  m.def("double_backward", &DoubleBackward, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"),
        nb::arg("arguments"));
}

}  // namespace isonorm_python
