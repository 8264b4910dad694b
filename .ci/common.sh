# SPDX-License-Identifier: MIT
# What tests/run, examples/run and .ci/run share; bash. Nothing here asks a question.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/build/tools  # a Python environment, used only where apt's tools are too old
PATH=$tools/bin:$PATH
mkdir -p "$root/build"

# All cores, if each compiler gets its gigabyte.
jobs=$(nproc)
memory=$(awk '/^MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo)
((jobs <= memory)) || jobs=$((memory > 1 ? memory : 1))

# step TITLE COMMAND...: one line; what the command says goes to a log, whose tail is shown if it
# fails. (The command is run as a condition, so bash ignores `set -e` in it: functions chain by &&.)
step() {
  local title=$1 log=$root/build/log.txt start=$SECONDS
  shift
  printf '%s ... ' "$title"
  if "$@" >"$log" 2>&1; then
    echo "$((SECONDS - start)) s"
  else
    echo "failed after $((SECONDS - start)) s. The end of $log:"
    tail -n 60 "$log"
    exit 1
  fi
}

# ---- Arguments -----------------------------------------------------------------------------------

# --help prints the comment that the script begins with.
print_help() { sed -n '3,$ { /^#/!q; s/^# \?//p }' "$0"; }
refuse_argument() { # refuse_argument WORD [EXPECTED]
  echo "${0##*/}: '$1' is not expected${2:+; expected $2} (--help tells what is)" >&2
  exit 2
}
# take_arguments "WORD..." "$@": these are known, each at most once; the script looks for them then.
take_arguments() {
  local known=" $1 " word
  for word in "${@:2}"; do
    if [ "$word" = --help ]; then print_help && exit; fi
    case $known in
      *" $word "*) known=${known/ $word / } ;;
      *) refuse_argument "$word" "${1:-no argument}" ;;
    esac
  done
}

# ---- Installing ----------------------------------------------------------------------------------

has_header() {
  echo "#include <$1>" | "${CXX:-g++}" -E -I/usr/include/eigen3 -I/usr/local/include/eigen3 -x c++ -
}

has_cmake() {
  printf '3.25\n%s\n' "$(cmake --version | sed -n 's/^cmake version //p')" | sort -C -V
}

# need PACKAGE COMMAND...: the package is missing if the command fails.
missing=()
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}

need_build_tools() {
  need g++ command -v "${CXX:-g++}"
  need cmake has_cmake
  command -v make >/dev/null || need ninja-build command -v ninja
  need libeigen3-dev has_header Eigen/Core
}

apt_install() {
  local sudo=()
  (($(id -u) == 0)) || sudo=(sudo -n)
  "${sudo[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
}

# Installs what `need` found missing.
install_missing() { # install_missing TITLE
  if ((${#missing[@]} == 0)); then
    echo "$1 nothing to install"
    return
  fi
  if ! command -v apt-get >/dev/null || { (($(id -u) != 0)) && ! sudo -n true 2>/dev/null; }; then
    echo "$1 Please install ${missing[*]}, and start this again (with apt-get, as root or with" \
      "sudo that asks for no password, it installs them itself)."
    exit 1
  fi
  step "$1 installing ${missing[*]}" apt_install "${missing[@]}"
  missing=()
  has_cmake >/dev/null 2>&1 || from_pypi "$1" 'cmake>=3.25,<4'
}

from_pypi() { # from_pypi TITLE REQUIREMENT
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    step "$1 installing python3-venv" apt_install python3-venv ca-certificates
  fi
  step "$1 installing $2 from PyPI into build/tools" install_from_pypi "$2"
}
install_from_pypi() {
  { [ -x "$tools/bin/pip" ] || python3 -m venv "$tools"; } && "$tools/bin/pip" install "$1"
}

# ---- Building ------------------------------------------------------------------------------------

configure() { # configure DIRECTORY [CMAKE OPTIONS...]
  local build=$1 generator=()
  shift
  # A build directory of another place or generator is of no use.
  if [ -e "$build/CMakeCache.txt" ]; then
    cmake -S "$root" -B "$build" "$@" && return
    rm -rf "$build"
  fi
  if command -v ninja; then generator=(-G Ninja); fi
  cmake -S "$root" -B "$build" "${generator[@]}" "$@"
}

build() { cmake --build "$1" --parallel "$jobs" "${@:2}"; } # build DIRECTORY [CMAKE OPTIONS...]

configure_and_build() { configure "$@" && build "$1"; }

# Runs the tests; shows the failed ones and ctest's closing lines.
run_tests() { # run_tests DIRECTORY [CTEST OPTIONS...]
  local log=$1/ctest.log status=0
  ctest --test-dir "$1" --output-on-failure --no-tests=error --no-label-summary --parallel "$jobs" \
    "${@:2}" >"$log" 2>&1 || status=$?
  if ((status == 0)); then
    sed -n '/tests passed,/,$p' "$log"
  else
    grep -vE '^ *Start +[0-9]+: | Passed +[0-9.]+ sec$' "$log"
  fi
  return $status
}
