#!/usr/bin/env python3
"""The rules of the house that a script can hold: length of files and lines, layering of includes, no machine paths, nothing left open, and
links between pages that lead somewhere.

  check_house.py ROOT         checks the files of the repository at ROOT
  check_house.py --self-test  breaks every rule in a temporary tree and fails unless each break is found
"""
import pathlib
import re
import subprocess
import sys
import tempfile

MAX_LINES, MAX_COLUMNS = 400, 128
# Which rooms a file may include from. A room is the longest prefix of its path that stands here.
CALL = {"include", "src/numbers", "src/call"}
TABLE = CALL | {"src/table"}
LIBRARY = TABLE | {"src/reference", "src/cpu", "src/cpu/vector", "src/cpu/general", "src/cpu/tuned", "src/entry"}
ROOMS = {
    "include": {"include"},
    "src": LIBRARY,
    "src/numbers": {"src/numbers"},
    "src/call": CALL,
    "src/table": TABLE,
    "src/reference": TABLE | {"src/reference"},
    "src/cpu": TABLE | {"src/cpu"},
    "src/cpu/vector": TABLE | {"src/cpu/vector"},
    "src/cpu/general": TABLE | {"src/cpu", "src/cpu/vector", "src/cpu/general"},
    "src/cpu/tuned": TABLE | {"src/cpu", "src/cpu/vector", "src/cpu/general", "src/cpu/tuned"},
    "src/entry": LIBRARY,
    "tools": {"include", "tools"},
    "python": {"include", "tools", "python", "python/native/base"},
    "python/native/base": {"include", "python/native/base"},
    "python/native/torch": {"include", "python/native/base", "python/native/torch"},
    "python/native/jax": {"include", "python/native/base", "python/native/jax"},
    "python/native/tensorflow": {"include", "python/native/base", "python/native/tensorflow"},
    "fuzz": {"include", "tools", "fuzz"},
    "examples": {"include"},
    "tests": LIBRARY | {"tools", "tests"},
}
FRAMEWORKS = r"torch|ATen|c10|jax|xla|tensorflow|numpy|Python\.h|pybind11|nanobind|cuda|fmt|CLI|nlohmann|gtest|benchmark"
STREAMS = r"iostream|ostream|istream|fstream|sstream|thread|future"
# Written so that this file does not match itself.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|farm|root|home|tmp)/|\.\./" r"shared\b")
LEFT_OPEN = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX|not imple" r"mented)\b", re.IGNORECASE)
# What the command says goes through print.h alone, which keeps control characters from the terminal and knows what arrived.
PRINTS = re.compile(r"\bfmt::print\(|\bstd::c(?:out|err)\b|\b(?:f?puts|f?printf|putchar)\(")
# Licence text and data are not ours to shape.
GIVEN = re.compile(r"^(LICENSE|data/.*|fuzz/(api/)?corpus/.*|docs/.*\.svg)$")


def repository_files(root):
  """Everything git tracks or would add; without git, everything outside build folders."""
  git = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False)
  if git.returncode == 0 and git.stdout.strip():
    names = git.stdout.split("\n")
  else:
    names = [str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*")]
    names = [n for n in names if not re.match(r"(build|\.git)(/|$)", n)]
  return sorted(n for n in names if n and (pathlib.Path(root) / n).is_file())


def room_of(name):
  parts = pathlib.PurePosixPath(name).parts[:-1]
  for length in range(len(parts), 0, -1):
    room = "/".join(parts[:length])
    if room in ROOMS:
      return room
  return None


def check_includes(root, name, text):
  room = room_of(name)
  if room is None:
    return
  for number, line in enumerate(text.splitlines(), 1):
    match = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
    if not match:
      continue
    kind, target = match.groups()
    where = f"{name}:{number}: includes {target}"
    if room.startswith("src") or room == "include":
      if re.match(rf"({FRAMEWORKS})(/|$|\.h)", target):
        yield f"{where}, a framework's header, in {room}"
      if room.startswith("src") and re.fullmatch(STREAMS, target):
        yield f"{where}: the library prints nothing and starts no thread"
      if room.startswith("src") and target.startswith("isonorm/") and target.endswith(".hpp"):
        yield f"{where}: the library knows only the C header"
    bases = [pathlib.Path(name).parent, *map(pathlib.Path, ("include", "src", "tools", "tools/isonorm", "tests", "."))]
    found = next((b / target for b in bases if (pathlib.Path(root) / b / target).is_file()), None)
    if found is not None:
      resolved = (pathlib.Path(root) / found).resolve().relative_to(pathlib.Path(root).resolve())
      other = room_of(resolved.as_posix())
      if other is not None and other not in ROOMS[room]:
        yield f"{where}: {room} must not depend on {other}"
    elif kind == '"' and (room == "include" or room.startswith("src")) and not (room.startswith("src/cpu") and target.startswith("hwy/")):
      yield f"{where}, which is no file of the project; only src/cpu may use Highway, and system headers take <>"


def check_links(root, name, text):
  """Files and headings of this repository that a page points to."""
  if not name.endswith(".md"):
    return
  for target, heading in re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
    path = pathlib.Path(root) / pathlib.Path(name).parent / target if target else pathlib.Path(root) / name
    if not path.exists():
      yield f"{name}: links to {target}, which is not there"
    elif heading and path.suffix == ".md":
      titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
      if heading not in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}:
        yield f"{name}: links to the heading #{heading} of {path.name}, which is not there"


def check(root):
  names = repository_files(root)
  faults, sources = [], 0
  for name in names:
    path = pathlib.Path(root) / name
    if GIVEN.match(name):
      continue
    try:
      text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
      faults.append(f"{name}: is not UTF-8 text; binary files belong in data/")
      continue
    sources += room_of(name) is not None
    lines = text.count("\n")
    if lines > MAX_LINES:
      faults.append(f"{name}: {lines} lines, {MAX_LINES} at most")
    for number, line in enumerate(text.splitlines(), 1):
      if MACHINE_PATHS.search(line):
        faults.append(f"{name}:{number}: names a path of one machine: {line.strip()[:80]}")
      if LEFT_OPEN.search(line):
        faults.append(f"{name}:{number}: leaves work open: {line.strip()[:80]}")
      # clang-format breaks code and leaves comments as they are.
      if len(line) > MAX_COLUMNS and name.startswith(("src/", "include/", "tools/")) and name.endswith((".h", ".hpp", ".cc", ".inc")):
        faults.append(f"{name}:{number}: {len(line)} columns, {MAX_COLUMNS} at most")
      if name.startswith("tools/isonorm/") and PRINTS.search(line):
        faults.append(f"{name}:{number}: prints past print.h: {line.strip()[:80]}")
    faults += check_includes(root, name, text)
    faults += check_links(root, name, text)
  if sources == 0:
    faults.append(f"{root}: no source file was found, so nothing was checked")
  return faults, len(names)


def self_test():
  breaks = {
      "src/long.cc": ("x\n" * (MAX_LINES + 1), "401 lines"),
      "src/wide.cc": ("// " + "x" * (MAX_COLUMNS - 2) + "\n", "129 columns"),
      "src/path.cc": ('const char* p = "/ho' 'me/me";\n', "names a path"),
      "src/open.cc": ("// TO" "DO later\n", "leaves work open"),
      "src/cpu/up.cc": ('#include "entry/api.h"\n', "must not depend on src/entry"),
      "src/numbers/up.h": ('#include "call/call.h"\n', "must not depend on src/call"),
      "src/numbers/out.h": ('#include "isonorm/isonorm.h"\n', "must not depend on include"),
      "src/call/runs.cc": ('#include "cpu/run.h"\n', "must not depend on src/cpu"),
      "src/call/chooses.cc": ('#include "table/kernels.h"\n', "must not depend on src/table"),
      "src/cpu/tuned/up-inl.h": ('#include "entry/api.h"\n', "must not depend on src/entry"),
      "src/reference/across.cc": ('#include "cpu/run.h"\n', "must not depend on src/cpu"),
      "src/tool.cc": ('#include "../tools/t.h"\n', "must not depend on tools"),
      "src/torch.cc": ("#include <torch/torch.h>\n", "a framework's header"),
      "src/highway.cc": ('#include "hwy/highway.h"\n', "only src/cpu may use Highway"),
      "src/print.cc": ("#include <iostream>\n", "prints nothing"),
      "tools/isonorm/verb.cc": ('  fmt::print("{}", name);\n', "prints past print.h"),
      "tools/inner.cc": ('#include "../src/entry/api.h"\n', "must not depend on src/entry"),
      "include/isonorm/leak.h": ('#include "../../src/entry/api.h"\n', "must not depend on src/entry"),
      "docs/link.md": ("[page](docs/good.md)\n", "links to docs/good.md"),
      "docs/heading.md": ("[page](good.md#other-words)\n", "links to the heading #other-words"),
      "docs/good.md": ("## Some words\n[itself](#some-words), [page](link.md), [elsewhere](https://example.org/a.md)\n", None),
      "src/entry/api.h": ("// fine\n", None),
      "src/call/call.h": ("// fine\n", None),
      "include/isonorm/isonorm.h": ("// fine\n", None),
      "src/table/kernels.h": ("// fine\n", None),
      "src/cpu/run.h": ("// fine\n", None),
      "tools/t.h": ("// fine\n", None),
  }
  with tempfile.TemporaryDirectory() as root:
    empty, _ = check(root)
    if not any("nothing was checked" in fault for fault in empty):
      return ["an empty tree passes"]
    for name, (text, _) in breaks.items():
      path = pathlib.Path(root) / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text, encoding="utf-8")
    faults, _ = check(root)
  missed = [f"{name}: '{want}' was not found" for name, (_, want) in breaks.items()
            if want and not any(f.startswith(name) and want in f for f in faults)]
  missed += [f"{name}: a fault was invented" for name, (_, want) in breaks.items()
             if want is None and any(f.startswith(name) for f in faults)]
  return missed


def main():
  if sys.argv[1:] == ["--self-test"]:
    faults, what = self_test(), "every broken rule was found"
  elif len(sys.argv) == 2:
    faults, count = check(sys.argv[1])
    what = f"{count} files keep the rules"
  else:
    raise SystemExit(__doc__)
  print("\n".join(faults) if faults else what)
  return len(faults) != 0


if __name__ == "__main__":
  sys.exit(main())
