# shellcheck shell=bash disable=SC2034 # its variables are used by the scripts that source it
# Names, places and small helpers that up, down, engine and test share.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
TESTBED=$ROOT/testbed
NAME=${LB_TESTBED:-lb} # another name is another testbed, beside this one
[[ $NAME =~ ^[a-z][a-z0-9]{0,9}$ ]] || { echo "LB_TESTBED=$NAME: must be 1 to 10 of a-z, 0-9" >&2 && exit 1; }
STATE=/run/$NAME-testbed # sockets, pids, logs; short, because a unix socket's path holds 108 bytes
DATA=/var/lib/$NAME-testbed
LOCK=/run/$NAME-testbed.lock
ENV_FILE=$STATE/env
HOSTS=(h1 h2)
SWITCH_NS=$NAME-switch
CGROUP=$NAME-testbed
REGISTRY=127.0.0.1:5000 REGISTRY_AUTH=127.0.0.1:5001 REGISTRY_USER=tester REGISTRY_PASSWORD=secret

say() { printf 'testbed: %s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

need_root() { [[ $(id -u) == 0 ]] || die "$1 needs root (testbed/test --no-engines does not)"; }
take_lock() { # one up or down at a time; descriptor 9 must not be handed to daemons
    exec 9>"$LOCK"
    flock 9
}

ns() { echo "/run/netns/$NAME-$1"; }
sock() { echo "$STATE/$1/docker.sock"; }
in_host() { # in_host h1 command...: runs it in the host's network namespace
    local host=$1
    shift
    # nsenter, not `ip netns exec`: the latter remounts /sys and hides the cgroups from an engine.
    nsenter --net="$(ns "$host")" -- "$@"
}
dk() { # dk h1 arguments...: the docker client of that host
    local host=$1 client=/usr/bin/docker
    shift
    [[ -x $client ]] || client=docker
    env -u DOCKER_HOST -u DOCKER_CONTEXT -u DOCKER_TLS_VERIFY DOCKER_CONFIG="$STATE/docker-config" \
        "$client" -H "unix://$(sock "$host")" "$@"
}
engine_answers() { [[ -S $(sock "$1") ]] && timeout 10 env DOCKER_CONFIG=/nonexistent \
    curl -sf -o /dev/null --unix-socket "$(sock "$1")" http://engine/_ping; }

# Daemons: their pid stands in $STATE/NAME.pid. A pid counts only while its command line still names
# our own folder, so that a number the kernel has given to someone else is never signalled.
pid_of() {
    local file=$STATE/$1.pid pid
    [[ -r $file ]] || return 1
    pid=$(<"$file")
    [[ -n $pid ]] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$STATE/" || return 1
    echo "$pid"
}
start_daemon() { # start_daemon NAME HOST command...
    local name=$1 host=$2
    shift 2
    pid_of "$name" >/dev/null && return 0
    setsid nsenter --net="$(ns "$host")" -- "$@" </dev/null >>"$STATE/$name.log" 2>&1 9>&- &
    echo $! >"$STATE/$name.pid"
    disown
}
stop_daemon() { # stop_daemon NAME [SIGNAL]: waits until it is gone; KILL after 30 s
    local name=$1 signal=${2:-TERM} pid
    if pid=$(pid_of "$name"); then
        kill -s "$signal" "$pid" 2>/dev/null || true
        wait_for 30 gone "$pid" || kill -s KILL "$pid" 2>/dev/null || true
    fi
    rm -f "$STATE/$name.pid"
}
gone() { # a zombie is gone too: where nothing reaps, it stays for ever
    ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null
}
wait_for() { # wait_for SECONDS command...: asks ten times a second
    local left=$(($1 * 10))
    shift
    until "$@"; do
        ((left-- > 0)) || return 1
        sleep 0.1
    done
}

start_engine() { # containerd of its own too: a machine's containerd must not see our containers
    local host=$1 dir=$STATE/$1
    start_daemon "$host-containerd" "$host" containerd --config "$dir/containerd.toml"
    wait_for 20 test -S "$dir/containerd.sock" || die "containerd of $host: see $STATE/$host-containerd.log"
    pid_of "$host-dockerd" >/dev/null || rm -f "$dir/docker.pid"
    start_daemon "$host-dockerd" "$host" dockerd --config-file "$dir/daemon.json" \
        --containerd "$dir/containerd.sock"
    wait_for 60 engine_answers "$host" || die "docker of $host does not answer: see $STATE/$host-dockerd.log"
}
