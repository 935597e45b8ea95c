# shellcheck shell=bash
# Installs what is missing on Debian and Ubuntu, and lets none of it start or enable a service.

# command:package, asked for by command, so that another vendor's engine counts as present; a module is asked
# for by its file.
NGINX_MODULES=/usr/lib/nginx/modules
NEEDED=(dockerd:docker.io containerd:containerd runc:runc docker:docker.io docker-registry:docker-registry
    haproxy:haproxy nginx:nginx
    "$NGINX_MODULES/ngx_stream_module.so:libnginx-mod-stream"
    podman:podman conmon:conmon crun:crun netavark:netavark aardvark-dns:aardvark-dns
    busybox:busybox-static ip:iproute2 iptables:iptables nsenter:util-linux
    curl:curl setpriv:util-linux ldd:libc-bin)
POLICY=/usr/sbin/policy-rc.d
APT_LOG=$STATE/apt.log

missing_packages() {
    local pair
    for pair in "${NEEDED[@]}"; do
        # Podman's helpers are not in PATH.
        [[ $pair == /* && -e ${pair%%:*} ]] ||
            PATH=$PATH:/usr/lib/podman:/usr/libexec/podman command -v "${pair%%:*}" >/dev/null ||
            echo "${pair#*:}"
    done | sort -u
}

install_missing() {
    local packages
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    command -v apt-get >/dev/null || die "missing: ${packages[*]}; only Debian and Ubuntu are installed for you"
    say "installing ${packages[*]}"
    forbid_services
    if ! apt_install "${packages[@]}"; then
        say "updating the package lists"
        apt-get -qq update
        apt_install "${packages[@]}" || { allow_services; die "apt-get cannot install ${packages[*]}"; }
    fi
    allow_services
    disable_units "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) || die "still missing after the install: ${packages[*]}"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null >"$APT_LOG" 2>&1 9>&-
}

# Debian policy, invoke-rc.d: a policy-rc.d that exits with 101 forbids every start.
forbid_services() {
    trap allow_services EXIT
    [[ ! -e $POLICY && ! -L $POLICY ]] || mv "$POLICY" "$POLICY.lb-testbed"
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}
allow_services() {
    trap - EXIT
    rm -f "$POLICY"
    [[ ! -e $POLICY.lb-testbed && ! -L $POLICY.lb-testbed ]] || mv "$POLICY.lb-testbed" "$POLICY"
}

disable_units() { # new units must not start at the next boot either
    command -v systemctl >/dev/null || return 0
    local unit
    for package in "$@"; do
        dpkg -L "$package" 2>/dev/null | sed -n 's,^.*/systemd/system/\([^/@]*\.\(service\|socket\|timer\)\)$,\1,p'
    done | sort -u | while read -r unit; do
        systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
    done
}
