// What several processes compute together: parallel.h.
#include "arguments.h"
#include "common.h"

namespace isonorm_python {
namespace {

// What the four functions have in common: a rank's share of a call.
template <class Link>
struct RankCall {
  isonorm_contract contract;
  double eps;
  Threads executor;
  Link link;
  ShardTuple shard;

  RankCall(nb::handle contract_bytes, nb::handle eps_number, int threads, nb::handle link_tuple, nb::handle shard_tuple)
      : contract(ContractOf(contract_bytes)), eps(Real(eps_number, "eps")), executor(threads) {
    link.Read(link_tuple);
    link.args.executor = executor.get();
    shard.Read(shard_tuple);
  }
};

void ForwardPartial(nb::handle contract, nb::handle eps, int threads, nb::handle link, nb::handle shard, int round) {
  const RankCall<ForwardLink> call(contract, eps, threads, link, shard);
  Run(call.link.x.size(),
      [&] { return isonorm_forward_partial(&call.contract, call.eps, &call.link.args, &call.shard.shard, round); });
}

int ForwardFinish(nb::handle contract, nb::handle eps, int threads, nb::handle link, nb::handle shard, int round) {
  const RankCall<ForwardLink> call(contract, eps, threads, link, shard);
  std::int32_t next = round;
  Run(call.link.x.size(),
      [&] { return isonorm_forward_finish(&call.contract, call.eps, &call.link.args, &call.shard.shard, &next); });
  return next;
}

void BackwardPartial(nb::handle contract, nb::handle eps, int threads, nb::handle link, nb::handle shard) {
  const RankCall<BackwardLink> call(contract, eps, threads, link, shard);
  Run(call.link.dy.size(),
      [&] { return isonorm_backward_partial(&call.contract, call.eps, &call.link.args, &call.shard.shard); });
}

void BackwardFinish(nb::handle contract, nb::handle eps, int threads, nb::handle link, nb::handle shard) {
  RankCall<BackwardLink> call(contract, eps, threads, link, shard);
  std::size_t size = 0;
  Check(isonorm_backward_workspace(&call.contract, call.eps, &call.link.args, &size));
  Workspace workspace;
  workspace.Reserve(size);
  call.link.args.workspace = workspace.data();
  call.link.args.workspace_size = workspace.size();
  Run(call.link.dy.size(),
      [&] { return isonorm_backward_finish(&call.contract, call.eps, &call.link.args, &call.shard.shard); });
}

void CombineGradients(nb::handle parts, nb::handle gradient, nb::handle rows, nb::handle part_rows, bool accumulate,
                      int threads) {
  Array aparts, agradient;
  aparts.Read(parts, "parts");
  agradient.Read(gradient, "out", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_combine_args>();
  args.parts = aparts.get();
  args.gradient = agradient.get();
  args.rows = Integer(rows, "rows");
  args.part_rows = Integer(part_rows, "part_rows");
  args.flags = accumulate ? ISONORM_ACCUMULATE : 0;
  args.executor = executor.get();
  Run(aparts.size(), [&] { return isonorm_combine_gradients(&args); }, {"gradient", "out"});
}

}  // namespace

void BindParallel(nb::module_& m) {
  m.def(
      "max_ranks", [](nb::handle cols) { return isonorm_max_ranks(Integer(cols, "cols")); }, nb::arg("cols").none());
  m.def("forward_partial", &ForwardPartial, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("link"),
        nb::arg("shard"), nb::arg("round"));
  m.def("forward_finish", &ForwardFinish, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("link"),
        nb::arg("shard"), nb::arg("round"));
  m.def("backward_partial", &BackwardPartial, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("link"),
        nb::arg("shard"));
  m.def("backward_finish", &BackwardFinish, nb::arg("contract"), nb::arg("eps").none(), nb::arg("threads"), nb::arg("link"),
        nb::arg("shard"));
  m.def("combine_gradients", &CombineGradients, nb::arg("parts"), nb::arg("out"), nb::arg("rows").none(),
        nb::arg("part_rows").none(), nb::arg("accumulate"), nb::arg("threads"));
}

}  // namespace isonorm_python
