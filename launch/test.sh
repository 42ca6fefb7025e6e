#!/usr/bin/env bash
# Runs the tests, after making the environment if need be:  bash launch/test.sh [pytest arguments]
# By default every law once and a smoke run of every command; `--thorough` runs everything: whole
# tables and notebooks, runs that are killed, two processes, further cases of laws.  Two files run
# at a time; `bash launch/test.sh -n 0 -m 'not slow' tests/flows` runs a part, one after another.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" || exit $?
cd "$REPOSITORY"
exec python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder "$@"
