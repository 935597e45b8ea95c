# shellcheck shell=bash disable=SC2153 # names in capitals are set by lib.sh
# The test images, made from this machine's own programs: no public registry is asked.
# Each carries a label with the hash of what it was made of, and is made again only when that changes.

HAPROXY_VERSION=$(haproxy -v 2>/dev/null | sed -nE '1s/.*version ([0-9]+\.[0-9]+).*/\1/p' || true)
NGINX_VERSION=$(nginx -v 2>&1 | sed -nE 's,.*nginx/([0-9]+\.[0-9]+).*,\1,p' || true)
# shellcheck disable=SC2034
NGINX_IMAGE=lb-testbed/nginx:${NGINX_VERSION:-unknown}
# shellcheck disable=SC2034
HAPROXY_IMAGE=lb-testbed/haproxy:${HAPROXY_VERSION:-unknown} BUSYBOX_IMAGE=lb-testbed/busybox:1
APP_IMAGE=lb-testbed/demo-app:1 APP_IMAGE_2=lb-testbed/demo-app:2
HASH_LABEL=lb-testbed.made-of

make_images() {
    local work app
    app=$(build_app)
    work=$DATA/images
    rm -rf "$work"
    stage_busybox "$work/busybox"
    stage_haproxy "$work/haproxy"
    stage_nginx "$work/nginx"
    mkdir -p "$work/app"
    cp "$app" "$work/app/demo-app"

    make_image "$work/busybox" "$BUSYBOX_IMAGE" 'CMD ["sh"]'
    # As in the official image: its user, folder, stop signal and entry script.
    make_image "$work/haproxy" "$HAPROXY_IMAGE" 'USER haproxy' 'WORKDIR /var/lib/haproxy' \
        'STOPSIGNAL SIGUSR1' 'ENTRYPOINT ["docker-entrypoint.sh"]' \
        'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]'
    make_image "$work/nginx" "$NGINX_IMAGE" 'STOPSIGNAL SIGQUIT' 'ENTRYPOINT ["docker-entrypoint.sh"]' \
        'CMD ["nginx", "-g", "daemon off;"]'
    make_image "$work/app" "$APP_IMAGE" 'ENV VERSION=1' 'EXPOSE 8080' 'ENTRYPOINT ["/demo-app"]'
    make_image "$work/app" "$APP_IMAGE_2" 'ENV VERSION=2' 'EXPOSE 8080' 'ENTRYPOINT ["/demo-app"]'
    rm -rf "$work"
    copy_images
    push_app
}

build_app() { # static, so that it runs in an image that holds nothing else
    local target
    target=$(rustc -vV | sed -n 's/^host: //p')
    say "building demo-app"
    (
        cd "$ROOT" || exit
        RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --target "$target" -p demo-app >&2 9>&-
        echo "$(cargo metadata --no-deps --format-version 1 | sed -nE 's/.*"target_directory":"([^"]*)".*/\1/p')/$target/release/demo-app"
    )
}

copy_program() { # copy_program PROGRAM FOLDER: the program and what it is linked to
    local program
    program=$(readlink -f "$(command -v "$1")")
    install -D "$program" "$2/usr/local/bin/$1"
    copy_libraries "$program" "$2"
}

copy_libraries() { # copy_libraries PROGRAM-OR-MODULE FOLDER: what it is linked to
    local library
    { ldd "$1" 2>/dev/null || true; } | sed -nE 's,^[^/]*(/[^ ]+).*,\1,p' | while read -r library; do
        install -D "$(readlink -f "$library")" "$2$library"
    done
}

stage_busybox() {
    local applet
    copy_program busybox "$1"
    mkdir -p "$1/bin" "$1/tmp" "$1/etc"
    for applet in $(busybox --list); do ln -sf /usr/local/bin/busybox "$1/bin/$applet"; done
    echo 'root:x:0:0:root:/:/bin/sh' >"$1/etc/passwd"
}

stage_haproxy() {
    stage_busybox "$1"
    copy_program haproxy "$1"
    mkdir -p "$1/usr/local/etc/haproxy" "$1/var/lib/haproxy" "$1/run"
    echo 'haproxy:x:99:99::/var/lib/haproxy:/bin/sh' >>"$1/etc/passwd"
    printf 'root:x:0:\nhaproxy:x:99:\n' >"$1/etc/group"
    cat >"$1/usr/local/bin/docker-entrypoint.sh" <<'END'
#!/bin/sh
set -e
case "$1" in -*) set -- haproxy "$@" ;; esac
if [ "$1" = haproxy ]; then shift; set -- haproxy -W -db "$@"; fi
exec "$@"
END
    chmod 755 "$1/usr/local/bin/docker-entrypoint.sh"
}

stage_nginx() { # with the stream module of Debian's package
    stage_busybox "$1"
    copy_program nginx "$1"
    install -D "$NGINX_MODULES/ngx_stream_module.so" "$1$NGINX_MODULES/ngx_stream_module.so"
    copy_libraries "$NGINX_MODULES/ngx_stream_module.so" "$1"
    mkdir -p "$1/var/log/nginx" "$1/var/lib/nginx" "$1/var/cache/nginx" "$1/run" "$1/etc/nginx"
    echo 'nginx:x:101:101::/nonexistent:/bin/false' >>"$1/etc/passwd"
    printf 'root:x:0:\nnginx:x:101:\n' >"$1/etc/group"
    printf 'events { }\nhttp { server { listen 80; } }\n' >"$1/etc/nginx/nginx.conf"
    printf '#!/bin/sh\nexec "$@"\n' >"$1/usr/local/bin/docker-entrypoint.sh"
    chmod 755 "$1/usr/local/bin/docker-entrypoint.sh"
}

make_image() { # make_image FOLDER NAME instruction...
    local folder=$1 name=$2 hash file
    shift 2
    # Equal contents must give equal bytes: order, owner and time are fixed.
    tar -C "$folder" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$folder.tar" .
    file=$(printf '%s\n' 'FROM scratch' "ADD $(basename "$folder").tar /" \
        'ENV PATH=/usr/local/bin:/usr/bin:/bin' "$@")
    hash=$({ cat "$folder.tar"; echo "$file"; } | sha256sum | cut -c1-16)
    [[ $(image_hash h1 "$name") != "$hash" ]] || return 0
    say "making $name"
    # The classic builder: the other one may be missing, or ask a registry for its parts.
    printf '%s\nLABEL %s=%s\n' "$file" "$HASH_LABEL" "$hash" >"$folder.Dockerfile"
    tar -C "$(dirname "$folder")" -c "$(basename "$folder")".{tar,Dockerfile} |
        DOCKER_BUILDKIT=0 dk h1 build --quiet -f "$(basename "$folder").Dockerfile" -t "$name" - >/dev/null
}

image_hash() {
    dk "$1" image inspect -f "{{index .Config.Labels \"$HASH_LABEL\"}}" "$2" 2>/dev/null || true
}

copy_images() { # from h1 to the others
    local host image stale
    for host in "${HOSTS[@]:1}"; do
        stale=()
        for image in "$HAPROXY_IMAGE" "$NGINX_IMAGE" "$APP_IMAGE" "$APP_IMAGE_2" "$BUSYBOX_IMAGE"; do
            [[ $(image_hash "$host" "$image") == "$(image_hash h1 "$image")" ]] || stale+=("$image")
        done
        ((${#stale[@]})) || continue
        say "copying ${#stale[@]} images to $host"
        dk h1 save "${stale[@]}" | dk "$host" load --quiet >/dev/null
    done
}

push_app() { # demo-app:1 to both registries; the login is forgotten again
    local registry name hash
    hash=$(image_hash h1 "$APP_IMAGE")
    [[ ! -e $DATA/pushed || $(<"$DATA/pushed") != "$hash" ]] || return 0
    say "pushing $APP_IMAGE to both registries"
    dk h1 login --username "$REGISTRY_USER" --password-stdin "$REGISTRY_AUTH" \
        <<<"$REGISTRY_PASSWORD" >/dev/null 2>&1
    for registry in "$REGISTRY" "$REGISTRY_AUTH"; do
        name=$registry/demo-app:1
        dk h1 tag "$APP_IMAGE" "$name"
        dk h1 push --quiet "$name" >/dev/null
        dk h1 rmi "$name" >/dev/null
    done
    rm -rf "$STATE/docker-config"
    echo "$hash" >"$DATA/pushed"
}
