#!/usr/bin/env bash
# Checks the machine and installs what building and testing Weir needs.
#
#   testbed/install.sh          for building: root is needed only to install what is missing
#   testbed/install.sh --root   for running: root is needed, for namespaces and AF_XDP
#   testbed/install.sh --python for the network function in Python, too
set -euo pipefail

RUST_AT_LEAST=1.95

PACKAGES=(
    gcc make libc6-dev clang pkg-config libelf-dev zlib1g-dev # build: the BPF program and libbpf
    iproute2 nftables procps                                  # run: namespaces, veth, filters
    iputils-ping traceroute iperf3 ethtool python3            # run: the traffic of the tests
    tshark                                                    # run: beside the logs of the experiment
)

PYTHON_PACKAGES=(python3 python3-venv)
PYTHON_WANTED=testbed/examples/nf_python/requirements.txt

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

check_system() {
    [ -r /etc/os-release ] || fail "no /etc/os-release: Weir is built and tested on Debian 12 and Ubuntu"
    # shellcheck disable=SC1091
    . /etc/os-release
    case " ${ID:-} ${ID_LIKE:-} " in
        *" debian "* | *" ubuntu "*) ;;
        *) fail "this is ${PRETTY_NAME:-unknown}: Weir is built and tested on Debian 12 and Ubuntu" ;;
    esac
}

check_rust() {
    local found
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        fail "no Rust found; get it: curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y," \
            "then open a new shell"
    found=$(rustc --version | awk '{ print $2 }')
    [ "$(printf '%s\n' "$RUST_AT_LEAST" "${found%%-*}" | sort -V | head -n 1)" = "$RUST_AT_LEAST" ] ||
        fail "Rust $RUST_AT_LEAST or later is needed, this is $found; get it: rustup update stable"
}

missing_packages() {
    local package
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            printf '%s\n' "$package"
    done
}

install_missing() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || fail "to install ${missing[*]}, run this as root"
    printf 'install.sh: installing %s\n' "${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update </dev/null
    apt-get -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null ||
        fail "apt-get could not install ${missing[*]}"
}

# A virtual environment beside what is built, with the packages of the network function in Python.
install_python() {
    local folder=${CARGO_TARGET_DIR:-target}/python
    ! cmp -s "$PYTHON_WANTED" "$folder/installed.txt" || return 0
    printf 'install.sh: installing the packages of %s\n' "$PYTHON_WANTED"
    python3 -m venv "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$PYTHON_WANTED" ||
        fail "pip could not install the packages of $PYTHON_WANTED"
    cp "$PYTHON_WANTED" "$folder/installed.txt"
}

main() {
    local option root='' python=''
    for option in "$@"; do
        case $option in
            --root) root=yes ;;
            --python) python=yes ;;
            *) fail "unknown option $option" ;;
        esac
    done
    cd "$(dirname "$0")/.."
    check_system
    if [ "$root" ] && [ "$(id -u)" -ne 0 ]; then
        fail "run this as root: it makes network namespaces and opens AF_XDP sockets"
    fi
    check_rust
    [ -z "$python" ] || PACKAGES+=("${PYTHON_PACKAGES[@]}")
    install_missing
    [ -z "$python" ] || install_python
}

main "$@"
