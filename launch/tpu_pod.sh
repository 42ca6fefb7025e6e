#!/usr/bin/env bash
# Cloud TPUs, from one host to a pod, with gcloud:
#
#   bash launch/tpu_pod.sh create  --name=afslvm --zone=us-central2-b --type=v4-32 [--spot]
#   bash launch/tpu_pod.sh install --name=afslvm --zone=us-central2-b
#   bash launch/tpu_pod.sh run     --name=... --zone=... python launch/train.py --distributed ...
#   bash launch/tpu_pod.sh fetch   --name=... --zone=... [REMOTE_FOLDER [LOCAL_FOLDER]]
#   bash launch/tpu_pod.sh stop    --name=... --zone=...
#   bash launch/tpu_pod.sh delete  --name=... --zone=... [--yes]
#
# create   makes the TPU; what it costs begins here and ends with delete
# install  copies the last commit to every worker and makes its environment there, with jax for TPUs
# run      runs a command on every worker at once, in that environment, in the copy of the repository
# fetch    brings a folder back from one worker: afslvm/runs into the present folder unless told otherwise
# stop     asks training on every worker to save and to end
# delete   asks, then deletes the TPU and all that lies on its own disks
#
# Settings, as --flags before the command or as variables:
#
#   --name=NAME  --zone=ZONE    which TPU; always needed
#   --type=TYPE                 to create: v4-32, v5litepod-16, v5p-32, v6e-16, ...
#   --version=VERSION           its software; by default what Google names for the type
#   --project=PROJECT           default: that of gcloud
#   --worker=all|0|0-3          for run (default all) and fetch (default 0)
#   --spot                      to create: cheaper, and can be taken away at any time
#   --dry_run                   only print the commands
#
# Exit codes: 2 for a setting that is missing or wrong, 6 without gcloud, else gcloud's own.
set -euo pipefail

REPOSITORY=$(CDPATH= cd -- "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ARCHIVE=$REPOSITORY/runs/afslvm.tar.gz

fail() {
  printf 'tpu_pod: %s\n' "$2" >&2
  exit "$1"
}

# quoted WORD...: the words as a shell reads them.
quoted() {
  local word separator=
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@%+-]*) word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
    esac
    printf '%s%s' "$separator" "$word"
    separator=' '
  done
}

# execute COMMAND...: prints it, and runs it unless this is a dry run.
execute() {
  printf '%s\n' "$(quoted "$@")"
  ((dry_run)) || "$@"
}

# tpu VERB ARGUMENTS...: gcloud on this TPU.
tpu() {
  local place=("--zone=$ZONE")
  [[ -z $PROJECT ]] || place+=("--project=$PROJECT")
  execute gcloud compute tpus tpu-vm "$@" "${place[@]}"
}

RUNTIMES=https://cloud.google.com/tpu/docs/runtimes

runtime_of() {
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v[234]-*) echo tpu-ubuntu2204-base ;;
    *) fail 2 "TYPE=$1 has no software version known here; give --version (see $RUNTIMES)" ;;
  esac
}

create() {
  local options=()
  [[ -n $TYPE ]] || fail 2 'TYPE is not set; give --type, such as --type=v4-32'
  [[ -n $VERSION ]] || VERSION=$(runtime_of "$TYPE")
  ((!spot)) || options=(--spot)
  tpu create "$NAME" "--accelerator-type=$TYPE" "--version=$VERSION" ${options[@]+"${options[@]}"}
}

# Images of Cloud TPU come with Python 3.10, which is too old; uv brings another without being root.
INSTALL='set -e; mkdir -p afslvm; tar -xzf afslvm.tar.gz -C afslvm; cd afslvm;
 python3 -c "import sys; sys.exit(sys.version_info < (3, 11))" || {
 python3 -m pip install --quiet --user uv; export PATH="$HOME/.local/bin:$PATH";
 uv python install --quiet 3.12; export AFSLVM_PYTHON="$(uv python find 3.12)"; };
 AFSLVM_EXTRA=tpu; . launch/setup_env.sh || exit'

install() {
  execute mkdir -p "$REPOSITORY/runs"
  execute git -C "$REPOSITORY" archive --format=tar.gz "--output=$ARCHIVE" HEAD
  tpu scp "$ARCHIVE" "$NAME:afslvm.tar.gz" "--worker=$worker"
  execute rm "$ARCHIVE"
  tpu ssh "$NAME" "--worker=$worker" "--command=${INSTALL//$'\n'/}"
}

run() {
  (($#)) || fail 2 'run needs a command, such as: run python launch/train.py --distributed --config=FILE ...'
  tpu ssh "$NAME" "--worker=$worker" "--command=cd afslvm && . launch/setup_env.sh && exec $(quoted "$@")"
}

fetch() {
  (($# <= 2)) || fail 2 "fetch takes a remote and a local folder, not also $3"
  [[ $worker != all ]] || worker=0
  execute mkdir -p "${2:-.}"
  tpu scp --recurse "$NAME:${1:-afslvm/runs}" "${2:-.}" "--worker=$worker"
}

stop() {  # The brackets keep pkill from finding the shell that runs it.
  tpu ssh "$NAME" "--worker=$worker" '--command=pkill -TERM -u "$(id -un)" -f "[l]aunch/train.py" || true'
}

delete() {
  local answer=
  if ((!yes && !dry_run)); then
    printf 'delete TPU %s in %s and all that lies on it? [y/N] ' "$NAME" "$ZONE" >&2
    read -r answer || true
    [[ $answer == [yY] || $answer == yes ]] || fail 2 'nothing was deleted; answer y, or give --yes'
  fi
  tpu delete "$NAME" --quiet
}

NAME=${NAME:-} ZONE=${ZONE:-} TYPE=${TYPE:-} VERSION=${VERSION:-} PROJECT=${PROJECT:-}
COMMANDS='create, install, run, fetch, stop or delete'
FLAGS='--name=, --zone=, --type=, --version=, --project=, --worker=, --spot, --dry_run, --yes or --help'
command= worker=all spot=0 dry_run=0 yes=0
while (($#)); do
  case $1 in
    --name=*) NAME=${1#*=} ;;
    --zone=*) ZONE=${1#*=} ;;
    --type=*) TYPE=${1#*=} ;;
    --version=*) VERSION=${1#*=} ;;
    --project=*) PROJECT=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --spot) spot=1 ;;
    --dry_run) dry_run=1 ;;
    --yes) yes=1 ;;
    --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}" && exit ;;
    -*) fail 2 "$1 is not one of $FLAGS" ;;
    *)
      [[ -z $command ]] || break  # what follows belongs to the command
      command=$1
      ;;
  esac
  shift
done

case $command in
  create | install | run | fetch | stop | delete) ;;
  '') fail 2 "name what to do: $COMMANDS" ;;
  *) fail 2 "$command is not one of $COMMANDS" ;;
esac
[[ $command == run || $command == fetch || $# == 0 ]] || fail 2 "$command takes no argument $1"
[[ -n $NAME ]] || fail 2 'NAME is not set; give --name, the name of the TPU'
[[ -n $ZONE ]] || fail 2 'ZONE is not set; give --zone, such as --zone=us-central2-b'
((dry_run)) || type -P gcloud >/dev/null || fail 6 'gcloud is not on PATH; install the Google Cloud CLI, or see --dry_run'
"$command" "$@"
