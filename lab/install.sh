#!/bin/bash
# Installs what the lab and the tests need: Debian packages, a virtual environment in .venv, and the
# files that the GUI sends to browsers. More Debian packages may be named as arguments.
# Run again it does only what is missing. It starts no daemon on this machine. PYTHON may name
# another interpreter than Debian's for a virtual environment that is made.
set -euo pipefail

cd "$(dirname "$0")/.."

packages=(
    ca-certificates chromium iproute2 keepalived kmod libnet-ssleay-perl libsasl2-modules miltertest
    nftables openssh-client
    openssh-server openssl postfix postfix-lmdb postgresql-15 procps python3-venv rsync swaks
    util-linux "$@"
)
# What a package would start at the next boot.
declare -A unit_of=(
    [keepalived]=keepalived [openssh-server]=ssh [postfix]=postfix [postfwd]=postfwd
    [postgresql-15]=postgresql [rspamd]=rspamd
)
policy=/usr/sbin/policy-rc.d
policy_mark='# Made by lab/install.sh, which removes it again.'
log=$(mktemp /tmp/relay-install.XXXXXX)
is_log_of_use=no

say() { printf '  %s\n' "$*" >&2; }

fail() {
    local where=
    if [[ $is_log_of_use = yes ]]; then where=" (all of it: $log)"; fi
    printf 'install: %s%s\n' "$*" "$where" >&2
    exit 1
}

is_our_policy() { grep -qsF "$policy_mark" "$policy"; }

leave() {
    local status=$?
    if is_our_policy; then rm -f "$policy"; fi
    if [[ $status = 0 || $is_log_of_use = no ]]; then rm -f "$log"; fi
}
trap leave EXIT

quietly() {
    is_log_of_use=yes
    "$@" </dev/null >>"$log" 2>&1
}

# Prints the first line of the log that begins like this, for a sentence about what went wrong.
first_line() { grep -m1 "^$1" "$log" || tail -n 1 "$log"; }

is_installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>>"$log") = installed ]]
}

forbid_daemons() {
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
        chmod 755 "$policy"
    fi
}

keep_units_off() {
    local package unit
    command -v systemctl >>"$log" || return 0
    for package in "$@"; do
        unit=${unit_of[$package]:-}
        if [[ -n $unit ]]; then
            quietly systemctl disable "$unit" || say "note: $unit will start at the next boot"
        fi
    done
}

choose_local_mail_only() {
    printf 'postfix postfix/main_mailer_type select Local only\n' | debconf-set-selections
}

install_packages() {
    local missing=() package
    # npm may have come with a Node.js that is not Debian's; Debian's npm would not fit beside it.
    npm --version >>"$log" 2>&1 || packages+=(nodejs npm)
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [[ ${#missing[@]} = 0 ]]; then return; fi
    if [[ $(id -u) != 0 ]]; then
        fail "Debian packages are missing (${missing[*]}): run this as root."
    fi
    export DEBIAN_FRONTEND=noninteractive
    say "reading the lists of Debian packages"
    # Lists that could not be read anew may still do; if not, installing says so.
    quietly apt-get -o DPkg::Lock::Timeout=120 update || say "note: $(first_line '[EW]:')"
    say "installing Debian packages: ${missing[*]}"
    forbid_daemons
    if [[ " ${missing[*]} " = *' postfix '* ]]; then choose_local_mail_only; fi
    quietly apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends \
        "${missing[@]}" ||
        fail "These Debian 12 packages cannot be had: ${missing[*]}. Check the network and" \
            "/etc/apt/sources.list; apt-get says: $(first_line E:)"
    keep_units_off "${missing[@]}"
}

# Debian's own, which `python3-venv` belongs to; others are often built without optimizations.
choose_python() {
    for python in "${PYTHON:-/usr/bin/python3}" python3; do
        if quietly "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then return; fi
    done
    fail "Python 3.11 or newer is needed; this is $(python3 --version)."
}

# Programs of a virtual environment name their place in their first line.
is_made_here() { grep -qsF "$PWD/.venv/" .venv/bin/pip; }

install_python() {
    local stamp wanted python
    stamp=.venv/installed.sha256
    wanted=$(cat pyproject.toml constraints.txt | sha256sum)
    if is_made_here && [[ -x .venv/bin/relay-lab && -e $stamp && $(<"$stamp") = "$wanted" ]]; then
        return
    fi
    choose_python
    if ! is_made_here || ! quietly .venv/bin/pip --version; then
        say "making the virtual environment .venv"
        quietly "$python" -m venv --clear .venv ||
            fail "The virtual environment .venv cannot be made: $(tail -n 1 "$log")"
    fi
    say "installing Python packages, pinned by constraints.txt"
    quietly .venv/bin/pip install --disable-pip-version-check \
        --constraint constraints.txt --editable '.[test]' ||
        fail "Python packages cannot be had. Check the network; pip says: $(first_line ERROR)"
    printf '%s\n' "$wanted" >"$stamp"
}

build_assets() {
    local build=(.venv/bin/python -m controlplane.gui.assets.build)
    if quietly "${build[@]}" --check; then return; fi
    say "building the GUI's files from npm packages, pinned by package-lock.json"
    quietly "${build[@]}" ||
        fail "The GUI's files cannot be built. Check the network; the build says: $(first_line ERROR)"
}

install_packages
install_python
build_assets
