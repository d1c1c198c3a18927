#!/usr/bin/env python3
"""Writes the marked snippets of a Markdown file to a folder, so that they can be compiled and run.

  extract_snippets.py README.md FOLDER

A snippet is a fenced block of cpp, c, sh or python right after a line `<!-- snippet: NAME -->`; it becomes FOLDER/NAME.cc, .c, .sh
or .py. A fenced block of text right after `<!-- output: NAME -->` is what it must print: FOLDER/NAME.out. Every block of these
languages must be marked, so that none is forgotten. Commands that a test cannot run, such as installing, are blocks of console.
"""
import pathlib
import re
import sys

SUFFIX = {"cpp": ".cc", "c": ".c", "sh": ".sh", "python": ".py", "text": ".out"}


def extract(text):
  snippets, marker, language, body = {}, None, None, []
  for number, line in enumerate(text.splitlines(), 1):
    fence = re.match(r"^```(\w*)\s*$", line)
    if language is not None:
      if fence:
        if marker and language in SUFFIX:
          snippets[marker[1] + SUFFIX[language]] = "\n".join(body) + "\n"
        marker, language = None, None
      else:
        body.append(line)
    elif fence:
      language, body = fence.group(1) or "text", []
      if language in ("cpp", "c", "sh", "python") and (marker is None or marker[0] != "snippet"):
        raise SystemExit(f"line {number}: a block of {language} without a line <!-- snippet: NAME --> before it")
    elif line.strip():
      match = re.match(r"^<!-- (snippet|output): (\w+) -->$", line)
      marker = match.groups() if match else None
  if language is not None:
    raise SystemExit("the last fenced block does not end")
  return snippets


def main():
  source, folder = sys.argv[1:]
  snippets = extract(pathlib.Path(source).read_text(encoding="utf-8"))
  if not any(not name.endswith(".out") for name in snippets):
    raise SystemExit(f"{source} has no marked snippet, so nothing would be tested")
  pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
  for old in pathlib.Path(folder).iterdir():
    if old.name not in snippets:
      old.unlink()
  for name, body in snippets.items():
    path = pathlib.Path(folder) / name
    if not path.exists() or path.read_text(encoding="utf-8") != body:  # an unchanged file is not compiled again
      path.write_text(body, encoding="utf-8")


if __name__ == "__main__":
  main()
