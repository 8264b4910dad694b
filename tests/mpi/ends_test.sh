#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ends_test.sh MPIRUN PROGRAM: however one of its ranks ends, all of them do, within 10 seconds, mpirun
# says that they failed, and one line says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mpirun=$1
program=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

run() { timeout 10 bash "$here/mpirun.sh" "$mpirun" 3 "$program" "$@" >"$work/out" 2>&1; }
wrong() {
  echo "$1. It said:"
  cat "$work/out"
  bad=1
}
ends() { # ends HOW SENTENCE [TIMES, or `some` if each rank may say it before it is ended]
  local status=0
  run "$1" "$work" || status=$?
  ((status != 0 && status != 124)) || wrong "$1 ended with status $status; expected a failure"
  local times
  times=$(grep -cF -- "$2" "$work/out" || true)
  [ "$times" = "${3:-1}" ] || { [ "${3:-}" = some ] && ((times > 0)); } ||
    wrong "$1 said '$2' $times times; expected ${3:-1}"
}

run well || wrong 'A program without fault failed'
ends within 'rank 1: eigenheads: the keys are gone'
ends between 'rank 1: no such file'
ends main 'rank 1: nobody catches this'
ends late 'rank 1 gave no sign for 2000 ms'
ends differ 'eigenheads: broadcast has values = 9 on rank 0 and values = 8 on rank 1; expected the same' some
ends null 'the communicator is MPI_COMM_NULL; expected one of all ranks that work together' some
ends single 'MPI was initialized with MPI_THREAD_SINGLE; expected MPI_THREAD_FUNNELED or more' some
ends uninitialized 'eigenheads: MPI is not initialized; expected MPI_Init_thread' some

# Killed while it works.
rm -f "$work"/[012]
status=0
start=$SECONDS
run loop "$work" &
for ((i = 0; i < 90; ++i)); do
  [ ! -s "$work/1" ] || break
  sleep 0.1
done
kill -9 "$(cat "$work/1")"
wait $! || status=$?
((status != 0 && status != 124)) || wrong "A rank was killed, and the status is $status"
grep -qiE 'signal 9|killed' "$work/out" || wrong 'A rank was killed, and nothing says so'
for rank in 0 2; do
  process=$(cat "$work/$rank")
  for ((i = 0; i < 50; ++i)); do # mpirun may be gone a little earlier, and nobody may have buried them
    [[ "$(ps -o stat= -p "$process")" == [^Z]* ]] || break
    sleep 0.1
  done
  ((i < 50)) || wrong "Rank 1 was killed, and rank $rank lives"
done
exit $bad
