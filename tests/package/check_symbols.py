#!/usr/bin/env python3
"""What the libraries define for others and what they call, by nm.

  check_symbols.py --shared libisonorm.so --static libisonorm.a [--expect TEXT]...

The shared library may export, and the static one may define globally, isonorm_* alone. Neither may call what ends the
program, prints, allocates or starts a thread. With --expect the check must find a fault that contains each TEXT: the gate's
own test. Exit status 0: as it should be.
"""
import argparse
import re
import subprocess
import sys

# Names as C knows them; C++'s operator new and delete, throw and the standard streams by their mangled beginnings.
FORBIDDEN = {
    "ends the program": r"abort|_?exit|_Exit|quick_exit|__assert_fail|__assert|raise|_ZSt9terminatev",
    "prints": r"v?f?printf|v?dprintf|__v?f?printf_chk|f?puts|f?putc|putchar|fwrite|perror|write|_ZNSt8ios_base.*|"
              r"_ZSt(4cout|4cerr|4clog|ls).*|_ZNSo.*",
    "allocates": r"malloc|calloc|realloc|free|aligned_alloc|posix_memalign|memalign|strdup|_Zn[wa].*|_Zd[la].*",
    "starts a thread": r"pthread_create|thrd_create|_ZNSt6thread.*|GOMP_.*|omp_.*",
    "throws": r"__cxa_throw|__cxa_rethrow|__cxa_allocate_exception|_ZSt\d+__throw_.*",
}


def nm(path, *options):
  """(type, name) of every symbol. A machine without nm, or a file without symbols, is an error and never a pass."""
  result = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=False)
  if result.returncode != 0:
    raise SystemExit(f"nm failed on {path}: {result.stderr.strip()}")
  found = []
  for line in result.stdout.splitlines():
    match = re.match(r"^(?:[0-9a-f]+)?\s+([A-Za-z?-])\s+(\S+)$", line)
    if match:
      found.append((match.group(1), match.group(2).split("@")[0]))
  return found


def calls(path, options):
  undefined = [name for kind, name in nm(path, *options, "--undefined-only") if kind in "UwWvV"]
  if not undefined:
    raise SystemExit(f"{path} calls nothing at all, not even memcpy: nm did not read it")
  return [f"{path} {what}: it references {name}" for name in sorted(set(undefined)) for what, pattern in FORBIDDEN.items()
          if re.fullmatch(pattern, name)]


def foreign(path, options):
  defined = sorted({name for _, name in nm(path, *options, "--defined-only", "--extern-only")})
  if not any(name.startswith("isonorm_") for name in defined):
    raise SystemExit(f"{path} defines no isonorm_ symbol: nm did not read it")
  return [f"{path} defines {name}, which does not begin with isonorm_" for name in defined if not name.startswith("isonorm_")]


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("--shared", action="append", default=[])
  parser.add_argument("--static", action="append", default=[])
  parser.add_argument("--expect", action="append", default=[])
  args = parser.parse_args()
  if not args.shared and not args.static:
    raise SystemExit("no library given")
  faults = []
  for path in args.shared:
    faults += foreign(path, ["--dynamic"]) + calls(path, ["--dynamic"])
  for path in args.static:
    faults += foreign(path, []) + calls(path, [])
  if args.expect:
    missing = [text for text in args.expect if not any(text in fault for fault in faults)]
    for text in missing:
      print(f"the check did not find: {text}\nit found: {faults}")
    return len(missing) != 0
  print("\n".join(faults) if faults else f"{len(args.shared + args.static)} libraries: only isonorm_*, no forbidden call")
  return len(faults) != 0


if __name__ == "__main__":
  sys.exit(main())
