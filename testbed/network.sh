# shellcheck shell=bash disable=SC2153 # names in capitals are set by lib.sh
# Hosts as network namespaces: a switch with a bridge, and one namespace a host. The bridge has a
# namespace of its own, because an engine in the main one drops what crosses a bridge there.

# 198.18.0.0/15 is set aside for tests of networks (RFC 2544), so it meets nothing real.
host_address() { echo "198.18.0.1${1#h}"; }
engine_bridge() { echo "172.31.${1#h}.1/24"; }

make_network() {
    [[ -e $STATE/netns-folder-is-ours || -d /run/netns ]] || {
        mkdir -p /run/netns
        touch "$STATE/netns-folder-is-ours"
    }
    add_namespace "$SWITCH_NS"
    local in_switch=(ip -n "$SWITCH_NS" link) host
    "${in_switch[@]}" show br0 >/dev/null 2>&1 || "${in_switch[@]}" add br0 type bridge
    "${in_switch[@]}" set br0 up
    for host in "${HOSTS[@]}"; do
        add_namespace "$NAME-$host"
        if ! "${in_switch[@]}" show "$host" >/dev/null 2>&1; then
            "${in_switch[@]}" add "$host" type veth peer name eth0 netns "$NAME-$host"
        fi
        "${in_switch[@]}" set "$host" master br0 up
        ip -n "$NAME-$host" link set eth0 up
        ip -n "$NAME-$host" address replace "$(host_address "$host")/24" dev eth0
    done
}

add_namespace() {
    [[ -e /run/netns/$1 ]] || ip netns add "$1"
    ip -n "$1" link set lo up
}

remove_network() {
    local name
    for name in "${HOSTS[@]/#/$NAME-}" "$SWITCH_NS"; do
        if [[ -e /run/netns/$name ]]; then ip netns delete "$name"; fi
    done
    if [[ -e $STATE/netns-folder-is-ours && -z $(ls -A /run/netns 2>/dev/null) ]]; then
        umount /run/netns 2>/dev/null || true
        rmdir /run/netns 2>/dev/null || true
    fi
}
