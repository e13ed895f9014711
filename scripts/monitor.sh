#!/bin/sh
# Run one scan of the monitor, with what cron lacks: PATH, umask, virtual environment.
# The exit code is that of the scan. In a crontab:
#   */10 * * * * /opt/s3sync/scripts/monitor.sh /etc/s3sync.yaml
set -eu
umask 077
home=$(dirname "$(dirname "$(readlink -f "$0")")")

if [ $# -lt 1 ]; then
    echo "usage: monitor.sh CONFIG [--dry_run] [--json]" >&2
    exit 2
fi
config=$(readlink -m "$1")
shift

python=$home/.venv/bin/python
if [ ! -x "$python" ]; then
    echo "monitor.sh: no virtual environment in $home (run: make -C $home install)" >&2
    exit 78
fi
PATH=$home/.venv/bin:/usr/local/bin:/usr/bin:/bin
export PATH
cd "$home"
exec "$python" -m s3sync monitor --config "$config" "$@"
