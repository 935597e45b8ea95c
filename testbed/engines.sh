# shellcheck shell=bash disable=SC2153 # names in capitals are set by lib.sh
# Engines and registries: their settings, and the start of all of them.

configure_engine() {
    local host=$1 dir=$STATE/$1 data=$DATA/$1 key=
    # 20.10 alone writes a key, to /etc/docker unless told otherwise; later ones refuse the option.
    [[ $(dockerd --version) != *" 20.10."* ]] || key='"deprecated-key-path": "'$dir'/key.json",'
    mkdir -p "$dir" "$data"
    # No cri, no /opt/containerd: nothing of it outside our own folders.
    cat >"$dir/containerd.toml" <<END
version = 2
root = "$data/containerd"
state = "$dir/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[debug]
  level = "warn"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$data/opt"
END
    # A file of our own, so that the machine's /etc/docker/daemon.json has no say.
    cat >"$dir/daemon.json" <<END
{
  "hosts": ["unix://$dir/docker.sock"],
  "data-root": "$data/docker",
  "exec-root": "$dir/exec",
  "pidfile": "$dir/docker.pid",
  "bip": "$(engine_bridge "$host")",
  "cgroup-parent": "/$CGROUP/$host",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  $key
  "log-level": "warn"
}
END
}

start_engines() {
    local host pids=()
    for host in "${HOSTS[@]}"; do
        configure_engine "$host"
        start_engine "$host" &
        pids+=($!)
    done
    for host in "${pids[@]}"; do wait "$host" || die "an engine did not start"; done
}

start_registries() { # on h1's loopback; the second asks for REGISTRY_USER and REGISTRY_PASSWORD
    local name address
    # bcrypt of "secret"
    # shellcheck disable=SC2016
    echo "$REGISTRY_USER"':$2b$04$RAFw6o.SBndeIndsQy8Ywu3gpQMyOxcHHGNRX.A4As/rzDZjowcqG' >"$STATE/htpasswd"
    for name in registry registry-auth; do
        address=$REGISTRY
        [[ $name == registry ]] || address=$REGISTRY_AUTH
        cat >"$STATE/$name.yml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $DATA/$name}, delete: {enabled: true}}
http: {addr: "$address"}
END
        [[ $name == registry ]] ||
            echo "auth: {htpasswd: {realm: testbed, path: $STATE/htpasswd}}" >>"$STATE/$name.yml"
        start_daemon "$name" h1 docker-registry serve "$STATE/$name.yml"
        wait_for 15 registry_answers "$address" || die "$name does not answer: see $STATE/$name.log"
    done
}

registry_answers() { # 401 is an answer: it asks for the login
    [[ $(in_host h1 curl -s -o /dev/null -w '%{http_code}' "http://$1/v2/") =~ ^(200|401)$ ]]
}
