// RMS of vectors, its gradient, and the penalty.
#include "array.h"
#include "common.h"

namespace isonorm_python {
namespace {

void Rms(nb::handle x, nb::handle rms, int threads) {
  Array ax, arms;
  ax.Read(x, "x");
  arms.ReadPerRow(rms, "out", ax, Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_args>();
  args.x = ax.get();
  args.rms = arms.get();
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms(&args); }, {"rms", "out"});
}

void RmsBackward(nb::handle x, nb::handle drms, nb::handle dx, int threads) {
  Array ax, adrms, adx;
  ax.Read(x, "x");
  adrms.ReadPerRow(drms, "drms", ax);
  adx.Read(dx, "out", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_backward_args>();
  args.x = ax.get();
  args.drms = adrms.get();
  args.dx = adx.get();
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms_backward(&args); }, {"dx", "out"});
}

void RmsPenalty(nb::handle x, nb::handle penalty, nb::handle dx, nb::handle lambda, bool accumulate, int threads) {
  Array ax, apenalty, adx;
  ax.Read(x, "x");
  apenalty.ReadPerRow(penalty, "penalty", ax, Access::kWrite);
  adx.Read(dx, "accumulate", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_penalty_args>();
  args.x = ax.get();
  args.penalty = apenalty.get();
  args.dx = adx.get();
  args.lambda = Real(lambda, "lambda_");
  args.flags = accumulate ? ISONORM_ACCUMULATE : 0;
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms_penalty(&args); }, {"dx", "accumulate"});
}

}  // namespace

void BindVectors(nb::module_& m) {
  m.def("rms", &Rms, nb::arg("x"), nb::arg("out"), nb::arg("threads"));
  m.def("rms_backward", &RmsBackward, nb::arg("x"), nb::arg("drms"), nb::arg("out"), nb::arg("threads"));
  m.def("rms_penalty", &RmsPenalty, nb::arg("x"), nb::arg("penalty").none(), nb::arg("dx").none(), nb::arg("lambda_").none(),
        nb::arg("accumulate"), nb::arg("threads"));
}

}  // namespace isonorm_python
