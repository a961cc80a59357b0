# What `cluster/ssh/workers` does on a host; it is copied there and run by sh. All lies in $DERMIS_HOME:
#   bundles/SHA256/    unpacked bundles           clusters/ID/{certs,cache,logs,pids}/    a cluster's workers
# A worker makes its own key, in certs/NAME; clusters/ID/token is what it joins by, once.
# shellcheck shell=sh
set -eu
umask 077
home=${DERMIS_HOME:-$HOME/.local/share/dermis}

die() { echo "$*" >&2; exit 1; }

# Start time of a process in ticks after boot: with the pid it names a process for good.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d ' ' -f 20; }
# Does the process of a pid file run?
runs() {
  [ -s "$1" ] || return 1
  read -r pid started < "$1"
  [ "$(start_time "$pid")" = "$started" ] && [ "$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat")" != Z ]
}

# bundle SHA256 < TAR: unpacks it, unless that is done.
bundle() {
  mkdir -p "$home/bundles"
  [ ! -d "$home/bundles/$1" ] || return 0
  new=$(mktemp -d "$home/bundles/.new.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  cat > "$new/file"
  [ "$(sha256sum < "$new/file")" = "$1  -" ] || die "the bundle came damaged: start again"
  mkdir "$new/tree"
  tar -xf "$new/file" -C "$new/tree" --strip-components=1 || die "the bundle cannot be unpacked; free space: $(df -h "$home" | tail -n 1)"
  mv -T "$new/tree" "$home/bundles/$1"
}

# start ID SHA256 COORDINATOR ADVERTISE SLOTS THREADS NAME < join token
start() {
  folder=$home/clusters/$1 mine=$home/bundles/$2 coordinator=$3 advertise=$4 slots=$5 threads=$6 name=$7
  mkdir -p "$folder/certs" "$folder/cache" "$folder/logs" "$folder/pids"
  cat > "$folder/token"
  [ -s "$folder/token" ] || die "no join token came: see what \`dermis cluster token create\` says"
  [ "$threads" != 0 ] || threads=$(($(nproc) / slots))
  [ "$threads" -gt 0 ] || threads=1
  memory=$(awk -v slots="$slots" '/^MemTotal/ {printf "%.0f", $2 * 1024 / 4 / slots}' /proc/meminfo)
  slot=0
  while [ "$slot" -lt "$slots" ]; do
    me=$name-$slot
    if ! runs "$folder/pids/$me"; then
      set -- --coordinator "$coordinator" --join "$folder/token" --certs "$folder/certs/$me" --cache "$folder/cache/$me" --name "$me" \
        --device "auto:$slot" --threads "$threads" --image-memory "$memory" --advertise "$advertise" --supervise
      # The child writes who it is before it becomes the worker: there is none that `stop` does not know.
      # shellcheck disable=SC2016
      setsid sh -c '
        file=$1 program=$2
        shift 2
        echo "$$ $(sed "s/.*) //" /proc/$$/stat | cut -d " " -f 20)" > "$file"
        exec "$program" "$@"' sh "$folder/pids/$me" "$mine/bin/dermis-worker" "$@" < /dev/null >> "$folder/logs/$me.log" 2>&1 &
    fi
    slot=$((slot + 1))
  done
  # Bundles that nothing runs from any more make place.
  used=$(for exe in /proc/[0-9]*/exe; do readlink "$exe" || true; done 2> /dev/null)
  for old in "$home"/bundles/*; do
    case $used in *"$old/"*) continue ;; esac
    [ "$old" = "$mine" ] || rm -rf "$old"
  done
}

# stop ID: SIGTERM, and SIGKILL after 40 s.
stop() {
  [ -d "$home/clusters/$1/pids" ] || return 0
  for file in "$home/clusters/$1/pids"/*; do
    if runs "$file"; then kill -TERM "$pid"; fi
  done
  until=$(($(date +%s) + 40))
  for file in "$home/clusters/$1/pids"/*; do
    while runs "$file"; do
      [ "$(date +%s)" -lt "$until" ] || kill -KILL "$pid"
      sleep 0.1
    done
    rm -f "$file"
  done
}

# status ID: a line a worker.
status() {
  for file in "$home/clusters/$1/pids"/*; do
    [ -e "$file" ] || continue
    if runs "$file"; then echo "${file##*/} runs, process $pid"; else echo "${file##*/} has ended"; fi
  done
}

# logs ID: a tar of them.
logs() {
  if [ -d "$home/clusters/$1/logs" ]; then tar -cf - -C "$home/clusters/$1/logs" .; fi
}

# has SHA256
has() { [ -d "$home/bundles/$1" ]; }

command=$1
shift
"$command" "$@"
