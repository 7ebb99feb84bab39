#!/bin/bash
# Runs a command with a lab of its own, beside the machine's: lab/private.sh NAME COMMAND...
# For a second test run at the same time. The lab ends with the command.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: lab/private.sh NAME COMMAND..." >&2
    exit 2
fi
if [[ ${RELAY_LAB_PRIVATE:-} != yes ]]; then
    export RELAY_LAB_PRIVATE=yes
    export RELAY_LAB_STATE_DIR="/var/lib/relay-lab-$1" RELAY_LAB_CGROUP="relay-lab-$1"
    exec unshare --net --mount "$0" "$@"
fi
shift
cd "$(dirname "$0")/.."
if mountpoint -q /run/netns; then umount -R /run/netns; fi
mkdir -p /run/netns
mount -t tmpfs -o mode=755 tmpfs /run/netns
ip link set lo up
status=0
"$@" || status=$?
.venv/bin/relay-lab down
exit "$status"
