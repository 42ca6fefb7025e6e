#!/usr/bin/env bash
# From a fresh clone to a page of results:  bash launch/quickstart.sh [OUTDIR]
#
# Makes the environment, prepares the embedded digits, trains the three kinds of model that the AF paper
# compares (1-AF, SLVM, SLVM + 1-AF), evaluates each on held-out digits and writes
# OUTDIR/report/index.html (OUTDIR is runs/quickstart in the repository by default).
# Run again, it resumes what was interrupted and reuses what is done.  Variables:
#
#   AFSLVM_SMOKE=1    a few steps of one tiny model, to see that every stage runs (OUTDIR is then runs/smoke)
#   AFSLVM_OVERRIDES  more arguments for the training runs, e.g. '--config.seed=1'
#
# and those of launch/setup_env.sh.  A stage that fails ends the script with the exit code of the stage.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh" || exit $?
SECONDS=0  # what is reported leaves the installation out

outdir=$REPOSITORY/runs/quickstart
evaluate_arguments=()
models=(af1 slvm slvm_af1)
configs=configs/moving_digits/MODEL.py
train_arguments=(--config.train.num_steps=1000)  # two thirds of the configs': within five minutes
if [[ ${AFSLVM_SMOKE:-0} == 1 ]]; then
  outdir=$REPOSITORY/runs/smoke
  models=(slvm_af1)
  configs=configs/smoke.py:MODEL
  evaluate_arguments=(--num_sequences=32)
  train_arguments=(
    --config.train.num_steps=4 --config.train.log_every=2
    --config.train.eval_every=4 --config.train.checkpoint_every=4
  )
fi
read -r -a overrides <<<"${AFSLVM_OVERRIDES:-}"
train_arguments+=("${overrides[@]}")
[[ -z ${1:-} ]] || outdir=$(mkdir -p "$1" && CDPATH= cd -- "$1" && pwd) || exit 2

# run_stage NAME SCRIPT [ARGUMENTS...]: ends this script, with one line, when the stage fails.
run_stage() {
  local name=$1 began=$SECONDS code
  shift
  printf 'quickstart: %s\n' "$name"
  "${dies_with_us[@]}" python "$@" </dev/null &
  child=$!
  # `wait` also returns when a signal was passed on; the stage then still has its state to save.
  until wait "$child"; code=$?; ((code < 128)) || ! kill -0 "$child" 2>/dev/null; do :; done
  ((code != 0)) || code=$stopped
  if ((code != 0)); then
    printf 'quickstart: stage "%s" ended with exit code %d; to continue, run the same command again\n' \
      "$name" "$code" >&2
    exit "$code"
  fi
  printf 'quickstart: %s took %d s\n' "$name" $((SECONDS - began))
}

# evaluate MODEL PROTOCOL
evaluate() {
  run_stage "evaluate $1 $2" launch/evaluate.py --workdir="$outdir/$1" --protocol="$2" \
    "${evaluate_arguments[@]}"
}

# pass_on SIGNAL CODE: to the running stage, which saves and ends; the exit code is CODE if it does not say.
pass_on() {
  stopped=$2
  [[ -n $child ]] && kill -s "$1" "$child" 2>/dev/null || exit "$stopped"
}

child= stopped=0 dies_with_us=()
set -m  # a stage has a process group of its own, so that a signal reaches it once, from here
if setpriv --pdeathsig KILL true 2>/dev/null; then
  dies_with_us=(setpriv --pdeathsig KILL)  # kill -9 of this script must not leave a trainer behind
fi
trap 'pass_on TERM 143' TERM HUP
trap 'pass_on INT 130' INT

cd "$REPOSITORY"
run_stage 'prepare data' launch/prepare_data.py --dataset=moving_digits
runs=()
for model in "${models[@]}"; do
  runs+=("$outdir/$model")
  run_stage "train $model" launch/train.py --config="${configs/MODEL/$model}" \
    --workdir="$outdir/$model" "${train_arguments[@]}"
  evaluate "$model" af_paper  # all of them on frames 3..12, so that they share a table
  evaluate "$model" discrete
done
run_stage 'report' launch/report.py "${runs[@]}" --output="$outdir/report/index.html"
printf 'quickstart: %s (%d s in all)\n' "$outdir/report/index.html" "$SECONDS"
