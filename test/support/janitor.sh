#!/bin/sh
# Removes what a test world made on this machine: processes, mounts, cgroups, network namespaces, files.
# It is the only code that does so, for an orderly end as for a crash:
#   janitor.sh watch WORLD_DIR          reads stdin to its end, which comes when the owner closes it or dies; then removes
#   janitor.sh machine WORLD_DIR NAME   removes one machine of a living world
#   janitor.sh sweep ROOT_DIR           removes the worlds whose owner no longer lives
# Invariants: it touches only what WORLD_DIR names; every step may be repeated, so that two janitors do no harm.
# Layout: WORLD_DIR/owner holds "PID STARTTIME NAME"; WORLD_DIR/machines/NAME/init holds "PID STARTTIME",
# and so does relay beside it, if there is one. NAME is NAME-OF-THE-WORLD-NUMBER.

# The start time of a process (field 22 of its stat), so that a reused pid is not taken for the old process.
start_time() {
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  rest=${stat##*) }
  # shellcheck disable=SC2086
  set -- $rest
  [ "$1" = Z ] && return 1
  shift 19
  echo "$1"
}

lives() { # PID STARTTIME
  [ -n "$1" ] && [ -n "$2" ] && [ "$(start_time "$1")" = "$2" ]
}

kill_namespace() { # NETNS: whatever still runs in it
  for pid in $(ip netns pids "$1" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
}

# The death of a machine's first process takes all processes of its pid namespace, and with them its mounts.
remove_machine() { # WORLD_DIR NAME
  machine="$1/machines/$2"
  if read -r pid started 2>/dev/null <"$machine/init" && lives "$pid" "$started"; then
    kill -9 "$pid" 2>/dev/null
    kill_namespace "$2" # a stopped nsenter would let the first process wait for its child for ever
    tries=0
    while lives "$pid" "$started" && [ $tries -lt 500 ]; do
      sleep 0.02
      tries=$((tries + 1))
    done
  fi
  # The cable's relay (links.ts), and the interface that led it to the switch.
  if read -r pid started 2>/dev/null <"$machine/relay" && lives "$pid" "$started"; then kill -9 "$pid" 2>/dev/null; fi
  ip -n "${2%-*}-switch" link del "m${2##*-}-near" 2>/dev/null
  kill_namespace "$2"
  ip netns del "$2" 2>/dev/null
  for cgroup in "/sys/fs/cgroup/$2" /sys/fs/cgroup/*/"$2"; do
    [ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  rm -rf "$machine"
}

remove_world() { # WORLD_DIR
  [ -d "$1" ] || return 0
  exec 9>"$1/removing" || return 0
  flock -n 9 || return 0
  name=
  read -r _ _ name 2>/dev/null <"$1/owner"
  for machine in "$1"/machines/*; do
    [ -d "$machine" ] && remove_machine "$1" "${machine##*/}"
  done
  if [ -n "$name" ]; then
    kill_namespace "$name-switch"
    # The link of the test's own namespace, then the switch; last the route that kept late packets off the network.
    ip link del "cos${1##*/}" 2>/dev/null
    ip netns del "$name-switch" 2>/dev/null
  fi
  if read -r subnet 2>/dev/null <"$1/subnet"; then ip route del unreachable "$subnet" 2>/dev/null; fi
  rm -rf "$1"
}

case "$1" in
  watch)
    cat >/dev/null
    remove_world "$2"
    ;;
  machine)
    remove_machine "$2" "$3"
    ;;
  sweep)
    for world in "$2"/*; do
      [ -d "$world" ] || continue
      pid= started=
      if read -r pid started _ 2>/dev/null <"$world/owner"; then
        lives "$pid" "$started" || (remove_world "$world")
      elif [ -n "$(find "$world" -maxdepth 0 -mmin +5 2>/dev/null)" ]; then
        (remove_world "$world") # its owner died before it wrote its name
      fi
    done
    ;;
esac
