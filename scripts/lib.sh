# Shared by the scripts beside this file: messages, and installing what is missing. Source it from the repository's root.

# Colours only where a person looks.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\033[1m' dim=$'\033[2m' red=$'\033[31m' green=$'\033[32m' plain=$'\033[0m'
else
  bold='' dim='' red='' green='' plain=''
fi

say() { printf '%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
die() {
  printf '%s%s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# quietly LOG COMMAND...: the command's output goes to build/log/LOG and is shown only if it fails.
quietly() {
  local log="build/log/$1"
  shift
  mkdir -p build/log
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    die "failed: $* (the whole output is in $log)"
  fi
}

# need PACKAGE...: installs those Debian packages that are missing; says which ones if it cannot.
need() {
  local package missing=() root=()
  if ! command -v apt-get >/dev/null; then
    note "This is no Debian or Ubuntu, so nothing is installed here. Needed, by Debian's names: $*"
    return
  fi
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ "${#missing[@]}" -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    # -n: a script without a terminal must not wait for a password.
    if command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
      root=(sudo)
    else
      die "Missing: ${missing[*]}. Run as root, or let an administrator run: apt-get install ${missing[*]}"
    fi
  fi
  note "installing ${missing[*]}"
  quietly apt-update.log "${root[@]}" apt-get update -q
  quietly apt-install.log "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# What building the library, the command line and the Python package needs, and what the tests need besides.
build_packages=(g++ cmake ninja-build libhwy-dev libcli11-dev nlohmann-json3-dev libfmt-dev python3-dev python3-venv)
test_packages=(libgtest-dev libgmock-dev chromium wamerican libopenmpi-dev openmpi-bin)
gate_packages=(clang clang-format clang-tidy libclang-rt-dev g++-aarch64-linux-gnu qemu-user ccache)

# Where ccache is, builds use it: find_launcher comes after need(), which may install it. Paths are compared from the folder of
# the build, so that the wheel, built of a copy of the sources, finds the objects of the library; a list of headers, which g++
# writes anyway, says what a file needs without reading it twice; and precompiled headers are compared too.
launcher=()
find_launcher() {
  if command -v ccache >/dev/null; then
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    export CCACHE_BASEDIR="$PWD" CCACHE_DEPEND=1 CCACHE_SLOPPINESS=pch_defines,time_macros
  fi
}
