# shellcheck shell=bash disable=SC2153 # names in capitals are set by lib.sh
# Podman beside a host's Docker, in the same namespace: its settings, its start, its end, and its images.
# Nothing of it lies outside our folders, not even its locks (by default in /dev/shm) and runc's state.

podman_sock() { echo "$STATE/$1/podman.sock"; }

configure_podman() {
    local dir=$STATE/$1/podman data=$DATA/$1/podman
    mkdir -p "$dir" "$data/networks"
    # runc: crun refuses hybrid cgroups. The default ulimits can be above a virtual machine's hard limit.
    cat >"$dir/runc" <<END2
#!/bin/sh
exec $(command -v runc) --root "$dir/runc-state" "\$@"
END2
    chmod 755 "$dir/runc"
    cat >"$dir/containers.conf" <<END2
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
events_logfile_path = "$data/events.log"
lock_type = "file"
tmp_dir = "$dir/tmp"
[engine.runtimes]
runc = ["$dir/runc"]
[network]
network_backend = "netavark"
network_config_dir = "$data/networks"
END2
    cat >"$dir/storage.conf" <<END2
[storage]
driver = "overlay"
graphroot = "$data/storage"
runroot = "$dir/run"
END2
    # Plain HTTP on loopback, as Docker allows it by itself; no search list: short names are Docker Hub's.
    cat >"$dir/registries.conf" <<END2
unqualified-search-registries = ["docker.io"]
short-name-mode = "disabled"
$(printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$REGISTRY" "$REGISTRY_AUTH" 127.0.0.1:1)
END2
}

podman_settings() { # fills SETTINGS: that host's files, and no connection or login of the user's
    local dir=$STATE/$1/podman
    # conmon leaves a file where the service was started.
    SETTINGS=(env -C "$DATA/$1/podman" -u CONTAINER_HOST -u CONTAINER_CONNECTION "CONTAINERS_CONF=$dir/containers.conf"
        "CONTAINERS_STORAGE_CONF=$dir/storage.conf" "CONTAINERS_REGISTRIES_CONF=$dir/registries.conf"
        "REGISTRY_AUTH_FILE=$dir/auth.json" "TMPDIR=$DATA/$1/podman")
}
pm() { # pm h1 arguments...: podman on that host, past the service
    local host=$1 SETTINGS
    shift
    podman_settings "$host"
    in_host "$host" "${SETTINGS[@]}" podman "$@"
}
podman_answers() { [[ -S $(podman_sock "$1") ]] && timeout 10 \
    curl -sf -o /dev/null --unix-socket "$(podman_sock "$1")" http://engine/_ping; }

start_podman() {
    local host=$1 SETTINGS
    pid_of "$host-podman" >/dev/null || rm -f "$(podman_sock "$host")"
    podman_settings "$host"
    start_daemon "$host-podman" "$host" "${SETTINGS[@]}" \
        podman --log-level=warn system service --time=0 "unix://$(podman_sock "$host")"
    wait_for 60 podman_answers "$host" || die "podman of $host does not answer: see $STATE/$host-podman.log"
}

start_podmans() {
    local host
    for host in "${HOSTS[@]}"; do
        configure_podman "$host"
        start_podman "$host"
        # Docker drops what is forwarded; netavark lets containers out, and not into what they publish.
        in_host "$host" iptables -w -C DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT 2>/dev/null ||
            in_host "$host" iptables -w -I DOCKER-USER -m conntrack --ctstate DNAT -j ACCEPT
    done
}

podman_image_hash() { pm "$1" image inspect -f "{{index .Labels \"$HASH_LABEL\"}}" "$2" 2>/dev/null || true; }

copy_images_to_podman() { # from h1's Docker
    local host image stale
    for host in "${HOSTS[@]}"; do
        stale=()
        for image in "$HAPROXY_IMAGE" "$NGINX_IMAGE" "$APP_IMAGE" "$APP_IMAGE_2" "$BUSYBOX_IMAGE"; do
            [[ $(podman_image_hash "$host" "$image") == "$(image_hash h1 "$image")" ]] || stale+=("$image")
        done
        ((${#stale[@]})) || continue
        say "copying ${#stale[@]} images to the podman of $host"
        dk h1 save "${stale[@]}" | pm "$host" load --quiet >/dev/null
    done
}

# Containers do not end with the service: each has a monitor (conmon) of its own.
remove_podman_containers() {
    local host
    for host in "${HOSTS[@]}"; do
        [[ -e $STATE/$host/podman/containers.conf ]] || continue
        pm "$host" rm --force --all --time 0 >/dev/null || true
    done
}
