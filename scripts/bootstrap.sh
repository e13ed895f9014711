#!/bin/sh
# bootstrap.sh PYTHON VENV: make the virtual environment with all that uploads need.
# For each thing that a bare machine may lack, print one line with the command that installs it.
set -eu
python=$1
venv=$2
here=$(pwd -P)

fail() {
    printf 's3sync: %s\n' "$*" >&2
    exit 1
}

case $here in
*[\"\'\`\$\\:]* | *[[:cntrl:]]*)
    fail "cannot be installed in $here: quotes, \$, \`, \\ and : in the path break the tools that install it" \
        "(move the checkout to a folder without them)"
    ;;
esac

apt=$(command -v apt-get || true)
command -v "$python" >/dev/null ||
    fail "there is no $python here (${apt:+sudo apt-get install -y python3 python3-venv, or }make PYTHON=/path/to/python3)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version 2>&1) is too old: 3.10 or newer is needed (make PYTHON=python3.11, or another that is there)"

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then # else there is one, which another Python must not overwrite
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        [ "$python" != python3 ] || package=python3-venv
        advice="install its modules venv and ensurepip"
        [ -z "$apt" ] || advice="sudo apt-get install -y $package"
        fail "$python cannot make virtual environments ($advice)"
    fi
    [ ! -e "$venv/pyvenv.cfg" ] || rm -rf "$venv" # one that was begun, or whose Python is gone
    "$python" -m venv "$venv" || fail "$python could not make the virtual environment $venv (the reason is above)"
fi

pip() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
        fail "pip could not install what is needed; its reason is above. Without a way to pypi.org:" \
            "HTTPS_PROXY=http://HOST:PORT make ..., or PIP_INDEX_URL=https://MIRROR/simple make ..."
}
pip --requirement requirements.txt
pip --no-deps --editable .
