#!/usr/bin/env bash
# Runs the tests, after making the environment if need be:  bash launch/test.sh [pytest arguments]
# All of them by default; for instance `bash launch/test.sh -m 'not slow' tests/flows` for a part.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" || exit $?
cd "$REPOSITORY"
exec python -m pytest "$@"
