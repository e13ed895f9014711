"""Write the files that this program makes."""

from __future__ import annotations

from pathlib import Path


def leave_our_files(run: Path) -> set[str]:
    """What was made in a run whose folder was TMPDIR and had the log directory."""
    work = run / "s3sync-work-0" / "tmpa1b2c3"
    (work / "batch-000001" / "Data").mkdir(parents=True)
    (work / "aws-config").write_text("[default]\naws_secret_access_key = precious\n")
    (work / "batch-000001" / "Data" / "first.cbcl").symlink_to(run / "Data" / "first.cbcl")
    log = run / "Logs"
    for path in ("locks/R.12345678.lock", "locks/monitor.lock", "leases/R.12345678/1", "uploads/R.upload.log.json"):
        (log / path).parent.mkdir(parents=True, exist_ok=True)
        (log / path).write_text("")
    for name in ("s3_upload.log", "s3_upload.log.2026-11-27", "notified.json", "noted.alerts.json", "last_tick.json"):
        (log / name).write_text("")
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_symlink() or path.is_file()}
