#!/usr/bin/env bash
# Installs the clients that the suites drive: setup.sh [all|python|node|java|go|kafka|system|oracles ...]
#
# Everything but Debian's packages goes under $OMNILOG_CLIENTS_CACHE (by default the user's cache folder). What is there
# already in the wanted versions is left alone. Every step is bounded in time; one that fails is said at the end, by
# name, and leaves the others to work.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${OMNILOG_CLIENTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/omnilog-conformance}
mkdir -p "$cache"
failed=()

# Is this part installed from exactly these sources?
ready() { # part files...
    local part=$1
    shift
    [[ -f $cache/$part/.ready && $(cat "$cache/$part/.ready") == "$(cat "$@" | sha256sum)" ]]
}

mark() { # part files...
    local part=$1
    shift
    cat "$@" | sha256sum >"$cache/$part/.ready"
}

python() {
    local sources=("$here/python/requirements.txt")
    ready python "${sources[@]}" && return
    rm -rf "$cache/python"
    timeout 60 python3 -m venv "$cache/python" &&
        timeout 240 "$cache/python/bin/pip" install --quiet --disable-pip-version-check -r "${sources[0]}" &&
        mark python "${sources[@]}"
}

node() {
    local sources=("$here/node/package.json" "$here/node/package-lock.json")
    ready node "${sources[@]}" && return
    rm -rf "$cache/node" && mkdir -p "$cache/node" && cp "${sources[@]}" "$cache/node/" &&
        (cd "$cache/node" && timeout 240 npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) &&
        mark node "${sources[@]}"
}

java() {
    local sources=("$here/java/pom.xml" "$here"/java/src/omnilog/*.java)
    ready java "${sources[@]}" && return
    rm -rf "$cache/java" && mkdir -p "$cache/java/classes" "$cache/java/lib" &&
        timeout 400 mvn -q -B -f "$here/java/pom.xml" dependency:copy-dependencies -DoutputDirectory="$cache/java/lib" \
            -Dmdep.useBaseVersion=true &&
        timeout 120 javac -nowarn -cp "$cache/java/lib/*" -d "$cache/java/classes" "$here"/java/src/omnilog/*.java &&
        mark java "${sources[@]}"
}

go() {
    local sources=("$here"/go/go.mod "$here"/go/go.sum "$here"/go/*.go)
    ready go "${sources[@]}" && return
    mkdir -p "$cache/go" &&
        (cd "$here/go" && CGO_ENABLED=0 timeout 400 "$(type -P go)" build -mod=readonly -o "$cache/go/franz" .) &&
        mark go "${sources[@]}"
}

debian() { # packages...
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    local sudo=()
    ((EUID)) && sudo=(sudo -n)
    "${sudo[@]}" timeout 120 apt-get update -qq
    "${sudo[@]}" timeout 300 env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

system() { debian kcat mosquitto-clients strace; }

kafka() {
    local sources=("$here/kafka/pom.xml")
    ready kafka "${sources[@]}" && return
    rm -rf "$cache/kafka" && mkdir -p "$cache/kafka/lib" &&
        timeout 400 mvn -q -B -f "${sources[0]}" dependency:copy-dependencies -DoutputDirectory="$cache/kafka/lib" \
            -Dmdep.useBaseVersion=true &&
        mark kafka "${sources[@]}"
}

# Other brokers to hold the cases against. Debian may start its own: this stops them again.
oracles() {
    debian rabbitmq-server mosquitto
    kafka || return
    local service
    for service in rabbitmq-server mosquitto; do
        command -v systemctl >/dev/null && systemctl is-active -q "$service" && systemctl stop "$service"
    done
    true
}

parts=("$@")
((${#parts[@]})) || parts=(all)
[[ ${parts[0]} == all ]] && parts=(system python node java go)
for part in "${parts[@]}"; do
    case $part in
    python | node | java | go | kafka | system | oracles) "$part" || failed+=("$part") ;;
    *)
        echo "setup.sh: no part is called $part" >&2
        exit 2
        ;;
    esac
done
if ((${#failed[@]})); then
    echo "setup.sh: could not install: ${failed[*]}" >&2
    exit 1
fi
