#!/bin/bash
# Installs what the lab and the tests need: Debian packages, then a virtual environment in .venv.
# Run again it does only what is missing. It starts no daemon on this machine.
set -euo pipefail

cd "$(dirname "$0")/.."

packages=(
    ca-certificates iproute2 keepalived kmod libnet-ssleay-perl libsasl2-modules nftables openssh-client
    openssh-server openssl postfix postfix-lmdb postgresql-15 procps python3-venv rsync swaks
    util-linux
)
units=(keepalived postfix postgresql ssh)
log=$(mktemp /tmp/relay-install.XXXXXX)
policy=/usr/sbin/policy-rc.d
has_own_policy=no

say() { printf '  %s\n' "$*" >&2; }

fail() {
    printf 'install: %s\n' "$*" >&2
    printf 'The full output is in %s\n' "$log" >&2
    exit 1
}

leave() {
    local status=$?
    if [[ $has_own_policy = yes ]]; then rm -f "$policy"; fi
    if [[ $status = 0 ]]; then rm -f "$log"; fi
}
trap leave EXIT

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>>"$log") = installed ]]
}

quietly() { "$@" </dev/null >>"$log" 2>&1; }

forbid_daemons() {
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        has_own_policy=yes
    fi
}

keep_units_off() {
    local unit
    for unit in "${units[@]}"; do
        if [[ " $* " = *" $unit"* || ( $unit = ssh && " $* " = *" openssh-server "* ) ]]; then
            if command -v systemctl >>"$log"; then
                quietly systemctl disable "$unit" || say "note: $unit will start at the next boot"
            fi
        fi
    done
}

install_packages() {
    local missing=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [[ ${#missing[@]} = 0 ]]; then return; fi
    if [[ $(id -u) != 0 ]]; then
        fail "Debian packages are missing (${missing[*]}): run this as root."
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "reading the lists of Debian packages"
    quietly apt-get update ||
        fail "apt-get update failed: check the network and /etc/apt/sources.list."
    say "installing Debian packages: ${missing[*]}"
    forbid_daemons
    printf 'postfix postfix/main_mailer_type select Local only\n' | debconf-set-selections
    quietly apt-get install --yes --no-install-recommends "${missing[@]}" ||
        fail "apt-get could not install ${missing[*]}: $(grep -m1 '^E:' "$log")"
    keep_units_off "${missing[@]}"
}

install_python() {
    local stamp wanted
    stamp=.venv/installed.sha256
    wanted=$(cat pyproject.toml constraints.txt | sha256sum)
    if [[ -x .venv/bin/relay-lab && -e $stamp && $(<"$stamp") = "$wanted" ]]; then return; fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "Python 3.11 or newer is needed; this is $(python3 --version)."
    if [[ ! -x .venv/bin/pip ]]; then
        say "making the virtual environment .venv"
        quietly python3 -m venv .venv || fail "python3 -m venv failed: $(tail -n 1 "$log")"
    fi
    say "installing Python packages, pinned by constraints.txt"
    quietly .venv/bin/pip install --disable-pip-version-check \
        --constraint constraints.txt --editable '.[test]' ||
        fail "pip failed: $(grep -m1 '^ERROR' "$log")"
    printf '%s\n' "$wanted" >"$stamp"
}

install_packages
install_python
