# Shared by the scripts of cluster/. To be sourced by bash with set -euo pipefail.
# shellcheck shell=bash

die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
# A mistake in the command itself.
usage_error() { printf '%s: %s (-h shows how it is used)\n' "${0##*/}" "$*" >&2; exit 2; }
# The comment at the head of a script is its help.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"; }

need() {
  local command
  for command in "$@"; do
    command -v "$command" > /dev/null || die "needs the program $command, which is not installed here"
  done
}

# The folder of the programs: beside cluster/ where Dermis is installed, else the build of this checkout.
programs() {
  local above
  above=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  local folder
  for folder in ${DERMIS_BUILD_DIR:+"$DERMIS_BUILD_DIR/bin"} "$above" "$above/build/bin"; do
    [[ -x $folder/dermis && -x $folder/dermis-worker ]] || continue
    printf '%s\n' "$folder"
    return
  done
  die "no programs in $above or $above/build/bin: install Dermis, or build it (tools/programs)"
}

cluster_folder() { printf '%s\n' "${DERMIS_CLUSTER:-${HOME:?}/.local/state/dermis}"; }

# Whether a file begins as a join token does.
is_token() { [[ -r $1 && $(head -c 14 "$1") == dermis-join-1/ ]]; }
