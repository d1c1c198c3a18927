// isonorm._native: what the Python package calls. It checks types and passes addresses to the C ABI; shapes that C would
// refuse, names and defaults are the package's.
#include "array.h"
#include "common.h"

NB_MODULE(_native, m) {
  namespace python = isonorm_python;
  python::LoadNumPy();
  python::BindCalls(m);
  python::BindVectors(m);
  python::BindParallel(m);
  python::BindInfo(m);
  python::BindStats(m);
  python::BindCheckpoint(m);
  python::BindMemory(m);
  python::BindTensors(m);
}
