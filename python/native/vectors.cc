// RMS of vectors, its gradient, and the penalty.
#include "array.h"
#include "common.h"

namespace isonorm_python {
namespace {

void Rms(nb::handle x, nb::handle rms, int threads) {
  Array ax, arms;
  ax.Read(x, "x");
  arms.Read(rms, "out", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_args>();
  args.x = ax.get();
  args.rms = arms.get();
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms(&args); });
}

void RmsBackward(nb::handle x, nb::handle drms, nb::handle dx, int threads) {
  Array ax, adrms, adx;
  ax.Read(x, "x");
  adrms.Read(drms, "drms");
  adx.Read(dx, "out", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_backward_args>();
  args.x = ax.get();
  args.drms = adrms.get();
  args.dx = adx.get();
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms_backward(&args); });
}

void RmsPenalty(nb::handle x, nb::handle penalty, nb::handle dx, double lambda, bool accumulate, int threads) {
  Array ax, apenalty, adx;
  ax.Read(x, "x");
  apenalty.Read(penalty, "penalty", Access::kWrite);
  adx.Read(dx, "dx", Access::kWrite);
  const Threads executor(threads);
  auto args = Sized<isonorm_rms_penalty_args>();
  args.x = ax.get();
  args.penalty = apenalty.get();
  args.dx = adx.get();
  args.lambda = lambda;
  args.flags = accumulate ? ISONORM_ACCUMULATE : 0;
  args.executor = executor.get();
  Run(ax.size(), [&] { return isonorm_rms_penalty(&args); });
}

}  // namespace

void BindVectors(nb::module_& m) {
  m.def("rms", &Rms, nb::arg("x"), nb::arg("out"), nb::arg("threads"));
  m.def("rms_backward", &RmsBackward, nb::arg("x"), nb::arg("drms"), nb::arg("out"), nb::arg("threads"));
  m.def("rms_penalty", &RmsPenalty, nb::arg("x"), nb::arg("penalty").none(), nb::arg("dx").none(), nb::arg("lambda_"),
        nb::arg("accumulate"), nb::arg("threads"));
}

}  // namespace isonorm_python
