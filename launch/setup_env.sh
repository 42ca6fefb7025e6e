#!/usr/bin/env bash
# Makes the Python environment of this repository and puts it first on PATH:
#
#   source launch/setup_env.sh
#
# The first time installs launch/requirements.lock (about 20 s with uv, a minute with pip); after that it
# takes milliseconds, until the lock, setup.py, the place or the interpreter changes.  Variables:
#
#   AFSLVM_PYTHON  interpreter to use (default: the best one found)
#   AFSLVM_VENV    where the environment goes (default: .venv in the repository)
#   AFSLVM_EXTRA   extra of setup.py to add: cuda or tpu (default: what the environment has, else none)
#   AFSLVM_SETUP   set to `functions`, only defines the functions below
#
# Returns 6, after one line that says what to do, when no environment can be made.

REPOSITORY=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOCK_FILE=$REPOSITORY/launch/requirements.lock

say() { printf 'setup: %s\n' "$*" >&2; }

# --- the interpreter ------------------------------------------------------------------------------

uv_works() { uv --version >/dev/null 2>&1; }  # a name on PATH proves nothing: version managers leave stubs

# Prints 'major.minor.micro' of the interpreter $1 if it runs and can import the modules $2.
python_version() {
  "$1" -I -c "import sys, $2; print('%d.%d.%d' % sys.version_info[:3])" 2>/dev/null </dev/null
}

# Prints how much version $1 is liked, 1 for best; fails for one that is too old.
version_rank() {
  case $1 in
    3.12.*) echo 1 ;;
    3.13.*) echo 2 ;;
    3.11.*) echo 3 ;;  # jax stops at 0.10 here
    3.1[4-9].*) echo 4 ;;  # newer than what the tests run on
    *) return 1 ;;
  esac
}

# Prints every interpreter worth trying, one path a line.  All the matches on PATH, not the first only:
# a stub that exits 127 may stand before the real one.
list_pythons() {
  local name root
  for name in python3.12 python3.13 python3.11 python3.14 python3 python; do
    type -aP "$name"
  done
  root=$(pyenv root 2>/dev/null) || root=${PYENV_ROOT:-${HOME:-}/.pyenv}
  for name in "$root"/versions/*/bin/python; do
    [[ -x $name ]] && echo "$name"
  done
  return 0
}

# Prints the path of the best working interpreter; when there is none, says which were tried, returns 6.
find_python() {
  local candidates candidate version rank best='' best_rank=9 tried='' needed='ctypes, ssl, zlib'
  uv_works || needed+=', ensurepip, venv'
  candidates=${AFSLVM_PYTHON:-$(list_pythons)}
  while IFS= read -r candidate; do
    [[ -n $candidate ]] || continue
    # The environment that is made anew can't be made by the interpreter that lies in it.
    [[ $candidate != "${VENV:-/nowhere}"/* ]] || continue
    version=$(python_version "$candidate" "$needed") || version='does not work'
    tried+="${tried:+, }$candidate ($version)"
    rank=$(version_rank "$version") || continue
    if ((rank < best_rank)); then
      best=$candidate best_rank=$rank
    fi
    ((rank == 1)) && break
  done <<<"$candidates"
  if [[ -z $best ]]; then
    say "no Python 3.11 or newer that works (tried: ${tried:-nothing, none is on PATH});" \
      'install Python 3.12 with its venv module, or set AFSLVM_PYTHON=/path/to/python3.12'
    return 6
  fi
  printf '%s\n' "$best"
}

# --- the environment ------------------------------------------------------------------------------
# $VENV/afslvm.incomplete exists from the first file to the last; $VENV/afslvm.stamp is written at the
# end and holds a digest of all that the installation depends on, then the extra that was chosen.

# Prints the digest with interpreter $1, which thereby proves that it runs.
environment_digest() {
  "$1" -I -S -c '
import hashlib, sys
digest = hashlib.sha256(repr((sys.version, sys.argv[1])).encode())
for path in sys.argv[2:]:
  digest.update(open(path, "rb").read())
print(digest.hexdigest())' "$REPOSITORY" "$LOCK_FILE" "$REPOSITORY/setup.py" 2>/dev/null </dev/null
}

# Says by its status whether $VENV is complete and made from the present files by the wanted Python.
environment_is_current() {
  local digest='' extra=''
  [[ -f $VENV/afslvm.stamp && ! -e $VENV/afslvm.incomplete ]] || return 1
  { read -r digest; read -r extra; } <"$VENV/afslvm.stamp"
  [[ $extra == "${AFSLVM_EXTRA-$extra}" ]] || return 1
  [[ -n $digest && $digest == "$(environment_digest "$VENV/bin/python")" ]] || return 1
  [[ -z ${AFSLVM_PYTHON:-} || $digest == "$(environment_digest "$AFSLVM_PYTHON")" ]]
}

# stage LABEL COMMAND...: runs the command, its output in the log; prints the label and the seconds.
stage() {
  local label=$1 started=$SECONDS
  shift
  printf 'setup: %s ... ' "$label" >&2
  if "$@" >>"$VENV/setup.log" 2>&1 </dev/null; then
    printf '%d s\n' $((SECONDS - started)) >&2
  else
    printf 'failed\n' >&2
    return 1
  fi
}

empty_environment() {
  : >"$VENV/afslvm.incomplete"
  find "$VENV" -mindepth 1 ! -path "$VENV/afslvm.incomplete" -delete
}

install_with_uv() {
  stage 'making the environment with uv' \
    uv venv --quiet --allow-existing --python "$1" "$VENV" || return 1
  stage 'installing launch/requirements.lock with uv' \
    uv pip install --quiet --python "$VENV/bin/python" -r "$LOCK_FILE" || return 1
  install_package uv pip install --quiet --python "$VENV/bin/python"
}

install_with_pip() {
  stage 'making the environment with venv' "$1" -m venv "$VENV" || return 1
  stage 'installing launch/requirements.lock with pip (a minute or so)' \
    "$VENV/bin/python" -m pip install --quiet --no-compile -r "$LOCK_FILE" || return 1
  install_package "$VENV/bin/python" -m pip install --quiet
}

# install_package INSTALLER...: afslvm itself, editable; setuptools comes from the lock.
install_package() {
  stage 'installing afslvm (editable)' \
    "$@" --no-deps --no-build-isolation --editable "$REPOSITORY" || return 1
  [[ -z $EXTRA ]] || stage "installing jax for $EXTRA" \
    "$@" --no-build-isolation --constraint "$LOCK_FILE" --editable "$REPOSITORY[$EXTRA]"
}

# Builds $VENV; the caller holds the lock.  A set-up that was interrupted is done again from nothing.
build_environment() {
  local python digest EXTRA=${AFSLVM_EXTRA-}
  if [[ -z ${AFSLVM_EXTRA+set} && -f $VENV/afslvm.stamp ]]; then
    { read -r digest; read -r EXTRA; } <"$VENV/afslvm.stamp"
  fi
  if [[ ! -e $VENV/afslvm.stamp && ! -e $VENV/afslvm.incomplete && -n $(ls -A "$VENV") ]]; then
    say "$VENV was not made by this script; remove it, or set AFSLVM_VENV to another place"
    return 6
  fi
  python=$(find_python) || return 6
  say "Python $(python_version "$python" sys) at $python"
  empty_environment || return 6
  if ! { uv_works && install_with_uv "$python"; }; then
    uv_works && say 'uv did not succeed; once more with venv and pip' && empty_environment
    if ! install_with_pip "$python"; then
      tail -n 15 "$VENV/setup.log" >&2
      say "the installation failed (log: $VENV/setup.log); mend what the lines above say and run again"
      return 6
    fi
  fi
  digest=$(environment_digest "$VENV/bin/python") || return 6
  printf '%s\n%s\n' "$digest" "$EXTRA" >"$VENV/afslvm.stamp" && rm "$VENV/afslvm.incomplete"
}

setup_environment() {
  VENV=${AFSLVM_VENV:-$REPOSITORY/.venv}
  [[ $VENV == /* ]] || VENV=$PWD/$VENV
  if ! environment_is_current; then
    mkdir -p "$VENV" || return 6
    (  # one set-up at a time; whoever waited finds the work done
      if type -P flock >/dev/null && ! flock -n 9; then
        say "waiting for another set-up of $VENV"
        flock 9
      fi
      environment_is_current || build_environment
    ) 9<"$VENV" || return 6
  fi
  export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
  unset PYTHONHOME
}

[[ ${AFSLVM_SETUP:-} == functions ]] || setup_environment
