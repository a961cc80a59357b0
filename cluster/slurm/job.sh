# Shared by the batch scripts of this folder: to be sourced by bash with set -euo pipefail.
# shellcheck shell=bash disable=SC2034,SC2154

# The address by which Slurm itself, and so the other nodes, reach this one.
node_address() {
  local address
  address=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
  printf '%s\n' "${address:-$(hostname)}"
}

end() { if is_running "$1"; then kill -TERM "$1" || true; fi; }

# Why the job ends: "" it need not; "user": it was cancelled; "slurm": time is up, or another job takes the nodes.
ending=''
note_ending() {
  ending=$1
  say "signal: the job ends ($1); workers store what they have"
  [[ -z ${workers:-} ]] || stop_workers
  [[ -z ${client:-} ]] || end "$client"
}

# Asks for our own job, not for a process: its number may be another's by now.
is_running() {
  local job
  for job in $(jobs -pr); do [[ $job != "$1" ]] || return 0; done
  return 1
}
# `wait` returns when a signal comes, too.
wait_for() {
  local status
  while true; do
    status=0
    wait "$1" || status=$?
    is_running "$1" || return "$status"
  done
}

# The join token of this run of the job: a file of ours alone that all nodes see, gone with the script; the token itself ends
# within the hour, when whoever joined by it has a certificate that renews itself. Its group says in lists whose it was.
make_token() {  # CLUSTER HOST:PORT
  token=$1/join-$SLURM_JOB_ID made_token=1
  "$programs/dermis" cluster token create --cluster "$1" --group "slurm-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" --ttl 1h \
    --address "$2" -o "$token"
}
forget_token() { [[ -z ${made_token:-} ]] || rm -f "$token"; }

# One worker a task, in the background: its srun is $workers. Each joins by $token.
start_workers() {
  srun --wait=0 --kill-on-bad-exit=0 --no-kill --input=none "$folder/task" "$programs" "$token" &
  workers=$!
}

# Signals the tasks, not this script. (srun itself would take SIGTERM for an order to kill them.)
stop_workers() { scancel --signal=TERM "$SLURM_JOB_ID" 2> /dev/null || true; }

# The job is queued again, and the next run goes on: nothing of a study lives in the job.
queue_again() {
  say "queued again"
  scontrol requeue "$SLURM_JOB_ID" || die "Slurm does not queue it again (JobRequeue, --requeue?): submit it again, the study goes on"
  # Slurm ends it now.
  trap 'exit 0' TERM
  sleep 60 &
  wait
}
