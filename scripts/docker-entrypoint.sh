#!/bin/sh
# The first process of the image. Started as root, it hands over to the user `node`, in the group that may use the Docker
# socket. It stays root only where that group cannot be had: a socket that only its owner, root, may use.
# (Whoever may use the socket may become root on the machine. The ordinary user is a guard against mistakes of ours in
# the container, not against an intruder.)
set -eu

user=node
program="node /opt/containeros/bin/containeros.js"
socket="${CONTAINEROS_DOCKER_SOCKET:-/var/run/docker.sock}"
data="${CONTAINEROS_DATA_DIR:-/var/lib/containeros}"

if [ ! -S "$socket" ]; then
  echo "containeros: there is no Docker socket at $socket." >&2
  echo "  Start the container with -v /var/run/docker.sock:/var/run/docker.sock" >&2
  exit 1
fi

# Started with --user: whoever did so has seen to the rights.
if [ "$(id -u)" != 0 ]; then
  # shellcheck disable=SC2086
  exec $program "$@"
fi

mode="$(stat -c %a "$socket")"
group_digit="${mode%?}"
group_digit="${group_digit#"${group_digit%?}"}"
case "$group_digit" in
  6 | 7) ;;
  *)
    echo "containeros: running as root, because only root may use $socket (mode $mode)." >&2
    # shellcheck disable=SC2086
    exec $program "$@"
    ;;
esac

mkdir -p "$data"
owner="$(id -u "$user")"
if [ "$(stat -c %u "$data")" != "$owner" ]; then chown -R "$user:$user" "$data"; fi
export HOME="/home/$user"
# Hostnames answer on ports 80 and 443, which an ordinary user may not open otherwise; without the right, on 8080 and
# 8443.
may_bind="--inh-caps=+net_bind_service --ambient-caps=+net_bind_service"
# shellcheck disable=SC2086
setpriv $may_bind true 2>/dev/null || may_bind=""
# shellcheck disable=SC2086
exec setpriv $may_bind --reuid="$owner" --regid="$(id -g "$user")" --groups="$(stat -c %g "$socket")" -- $program "$@"
