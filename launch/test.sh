#!/usr/bin/env bash
# Runs the tests, after making the environment if need be:  bash launch/test.sh [pytest arguments]
# All of them by default, two files at a time; `bash launch/test.sh -n 0 -m 'not slow' tests/flows` runs a
# part, one after another.  `--thorough` adds cases of laws that other cases always check.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" || exit $?
cd "$REPOSITORY"
exec python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
