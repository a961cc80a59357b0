# Shared by the tests of cluster/, which are scripts: to be sourced by bash with set -euo pipefail.
# shellcheck shell=bash disable=SC2034

source_dir=${DERMIS_SOURCE_DIR:?}
build_dir=${DERMIS_BUILD_DIR:?}
# Short: a Unix socket's path holds at most 107 characters.
work=$(mktemp -d /tmp/dermis-test.XXXXXX)
export DERMIS_CLUSTER=$work/cluster
# 77: skipped, by the convention of ctest.
skip() { echo "SKIPPED: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }
step() { printf '\n--- %s (after %s s)\n' "$*" "$SECONDS"; }

ends=()                       # Commands that end what the test started, last first.
at_end() { ends=("$1" "${ends[@]}"); }
finish() {
  local status=$? command
  set +e
  for command in "${ends[@]}"; do eval "$command"; done
  if [[ $status != 0 && $status != 77 ]]; then
    find "$work" -name '*.log' -size -1000k -not -path '*/blobs/*' -exec sh -c 'echo "== $1"; tail -n 30 "$1"' _ {} \;
  fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Ends the daemon of a pid file, and waits for it, if it is this test's: the number may be another's by now.
end_daemon() {
  local pid
  [[ -s $1 ]] || return 0
  pid=$(< "$1")
  grep -qsF "$work" "/proc/$pid/cmdline" "/proc/$pid/environ" || return 0
  kill "$pid"
  for _ in {1..50}; do
    # A zombie of the machine's first process counts as ended.
    [[ $(ps -o stat= -p "$pid") == [^Z]* ]] || return 0
    sleep 0.1
  done
  kill -9 "$pid"
}
# Ends a job of this shell.
end_job() {
  local job
  for job in $(jobs -pr); do
    [[ $job != "$1" ]] || { kill "$job"; wait "$job"; }
  done
}
# Waits for a command to succeed, at most so many seconds.
await() {
  local seconds=$1 until
  shift
  until=$((SECONDS + seconds))
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < until)) || fail "not within $seconds s: $*"
    sleep 0.2
  done
}

# A command that must end with this code, and say this.
expect_error() {
  local code=$1 text=$2 got=0
  shift 2
  "$@" > "$work/mistake.log" 2>&1 || got=$?
  if [[ $got != "$code" ]] || ! grep -q -- "$text" "$work/mistake.log"; then
    fail "$* ended with $got and said: $(< "$work/mistake.log")"
  fi
}

# Processes of the programs that name this text in their command lines.
processes_of() { pgrep -f -- "dermis-(worker|coordinator) .*$1" || true; }
expect_none_of() {
  local left
  left=$(processes_of "$1")
  [[ -z $left ]] || fail "processes are left: $(ps -o pid=,args= -p "${left//$'\n'/,}")"
}

# A small study of every stage, seconds of work; $2 epochs.
write_study() {
  cat > "$1" << YAML
name: small
seed: 3
images: {set: small, size: 32, split: {test: 0.25, validation: 0.2}}
training: {logical_shards: 4, batch_size: 32, epochs: ${2:-3}}
explanation:
  images: {per_confusion_cell: {most_confident: 1, least_confident: 0, random: 0}}
  methods:
    - lime: {samples: 200, superpixels: {slic: {count: 12}}}
    - grad_cam
YAML
}
bits_of() { "$1" results small --cluster "$2" | sed -n 's/^Bits of all results: //p'; }

# A bundle of the build, made once for all tests; prints its path.
bundle() {
  local file=$build_dir/cluster-test/dermis.tar
  mkdir -p "$build_dir/cluster-test"
  exec 9> "$build_dir/cluster-test/lock"
  flock 9
  if [[ ! -e $file || -n $(find "$build_dir/bin" "$source_dir/cluster" -newer "$file" -print -quit) ]]; then
    "$source_dir/cluster/bundle" -o "$file" >&2
  fi
  exec 9>&-
  printf '%s\n' "$file"
}
# A port that nobody listens on, below those that are given out.
free_port() {
  python3 -c '
import random, socket
while True:
    port = random.randrange(10000, 30000)
    with socket.socket() as s:
        if s.connect_ex(("127.0.0.1", port)) != 0: break
print(port)'
}
