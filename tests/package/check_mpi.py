#!/usr/bin/env python3
"""An example that ranks of MPI run together: with 1, 2, 4 and 8 it prints what stands beside it, and with 3, a split that is not
possible, every rank says the same sentence before anything was sent.

  check_mpi.py EXPECTED MPIEXEC PROGRAM [ARGUMENT ...]
  check_mpi.py --self-test EXPECTED    fails unless results that are wrong are seen
  check_mpi.py --two MPIEXEC PROGRAM [ARGUMENT ...]    any program, by two ranks: one line is printed
"""
import os
import pathlib
import re
import subprocess
import sys

# More ranks than cores, as root, in a container that has neither a network, nor ssh, nor leave to read the memory of another process.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_plm": "isolated",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,vader",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}
REFUSED = ("rank {} of 3, after 0 exchanges: shard.ranks is 3, but must be a power of two from 1 to 8 for rows of 1536 columns "
           "(512 on each rank).")


def run(mpiexec, ranks, program):
  done = subprocess.run([mpiexec, "-n", str(ranks), *program], env=os.environ | SETTINGS, capture_output=True, text=True, timeout=100,
                        check=False)
  return done.returncode, done.stdout, done.stderr


def faults(lines, results):
  """What is wrong with (exit status, output, errors) of each number of ranks."""
  found = []
  for ranks, line in zip((1, 2, 4, 8), lines, strict=True):
    status, output, errors = results[ranks]
    if status != 0 or output != f"{line}\n":
      found.append(f"{ranks} ranks: exit status {status}, and not '{line}' but\n{output}{errors}")
  status, output, errors = results[3]
  said = sorted(re.findall(r"^rank \d.*", errors, re.MULTILINE))
  if status == 0 or output or said != [REFUSED.format(rank) for rank in range(3)]:
    found.append(f"3 ranks: exit status {status}, and not one sentence three times:\n{output}{errors}")
  return found


def self_test(lines):
  refused = "".join(REFUSED.format(rank) + "\n" for rank in (2, 0, 1))
  right = {ranks: (0, f"{line}\n", "") for ranks, line in zip((1, 2, 4, 8), lines)} | {3: (1, "", f"--- a note of mpirun\n{refused}")}
  wrong = {
      "a rank fails": {8: (1, right[8][1], "")},
      "other bits": {4: (0, right[4][1].replace("the bits of one process", "other bits"), "")},
      "processes that know of no other": {2: (0, 2 * right[1][1], "")},
      "one rank refuses": {3: (1, "", REFUSED.format(0))},
      "one rank has other words": {3: (1, "", refused.replace("rank 1 of 3, after 0 exchanges:", "rank 1 of 3, after 0 exchanges: I say"))},
      "something was sent": {3: (1, "", refused.replace("after 0", "after 1"))},
      "a result in spite of it": {3: (1, right[4][1], refused)},
      "refused, with the status of success": {3: (0, "", refused)},
  }
  found = [f"what is right is refused: {fault}" for fault in faults(lines, right)]
  return found + [f"{name}: this was not seen" for name, results in wrong.items() if len(faults(lines, right | results)) != 1]


def main():
  if sys.argv[1] == "--two":
    status, output, errors = run(sys.argv[2], 2, sys.argv[3:])
    print(output, errors, sep="")
    return status != 0 or output.count("\n") != 1
  lines = pathlib.Path(sys.argv[-1] if sys.argv[1] == "--self-test" else sys.argv[1]).read_text(encoding="utf-8").splitlines()
  if sys.argv[1] == "--self-test":
    found, what = self_test(lines), "every fault was seen"
  else:
    found = faults(lines, {ranks: run(sys.argv[2], ranks, sys.argv[3:]) for ranks in (1, 2, 4, 8, 3)})
    what = "1, 2, 4 and 8 ranks have the bits of one process, and 3 are refused on every rank"
  print("\n".join(found) or what)
  return len(found) != 0


if __name__ == "__main__":
  sys.exit(main())
