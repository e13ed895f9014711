"""Describe the result of a restore, or its preview: lines for people, and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from s3sync.aws.thaw import TIERED
from s3sync.commands.frozen_text import tier_lines, tiers_json
from s3sync.errors import Notice
from s3sync.text import human_bytes, human_seconds, list_by_reason, pluralize, printable
from s3sync.transfer import restore


def result_lines(result: restore.request.RestoreResult) -> list[str]:
    """Return a verdict in one line, and the facts behind it."""
    where, request = printable(str(result.request.target)), result.request
    count, size = len(result.verified_by), human_bytes(result.total_size)
    if result.ok:
        part = "" if result.whole else "part of "
        verdict = f"restored {part}{printable(request.run_id)}: {pluralize(count, 'file')}, {size}, all verified"
    elif result.frozen and not result.failed:
        verdict = f"restored {count:,} of {pluralize(result.total_files, 'file')}: the others are frozen in an archive"
    elif result.is_in_place:
        text = f"restored {printable(request.run_id)} except {pluralize(len(result.failed), 'file')}"
        verdict = str(Notice(text, id="restore.failed"))
    else:
        kept = f"{count:,} of {pluralize(result.total_files, 'file')} are verified and kept beside {where}"
        kept += " for the next call (--cancel removes them)"
        text = f"NOT restored: {kept if count else 'no file is verified'}"
        verdict = str(Notice(text, id="restore.failed"))
    proofs = ", ".join(f"{number:,} by {how}" for how, number in sorted(result.proofs.items()))
    facts = [f"  in {where}, from {printable(request.url)}, in {human_seconds(result.seconds)}"]
    facts += [f"  verified {proofs}; compared with {_records(result)}"] if result.verified_by else []
    if result.kept:
        facts.append(f"  {pluralize(len(result.kept), 'file')} already on disk, with the same bytes")
    facts += _frozen_lines(result)
    if result.without_time:
        facts.append(
            f"  {pluralize(result.without_time, 'file')} with the time of the object, as no record has the file's own"
        )
    if result.unrecorded:
        facts.append(
            f"  {pluralize(len(result.unrecorded), 'file')} that no record lists, such as"
            f" {printable(result.unrecorded[0])}"
        )
    failed = list_by_reason(dict(result.failed), " (--json names them all)")
    return [verdict, *facts, *([f"  {pluralize(len(result.failed), 'file')} failed:", *failed] if failed else [])]


def _frozen_lines(result: restore.request.RestoreResult) -> list[str]:
    """Return how to thaw the frozen objects, or when they should be thawed."""
    lines = []
    if others := len(result.frozen) - result.requested:
        size = f", {human_bytes(result.frozen_size)}," if not result.requested else ""
        advice = f"add --tier {' or '.join(result.tiers)}" if result.tiers else "add --tier"
        lines.append(f"  {pluralize(others, 'object')}{size} must be thawed first, which costs money ({advice})")
    if result.requested:
        count = pluralize(result.requested, "object")
        lines.append(
            f"  {count} being thawed until about {result.ready_at}: run the same command again then, or with --wait"
        )
    return lines


def _records(result: restore.request.RestoreResult) -> str:
    return ", ".join(("S3", *result.records)) if result.records else "S3 alone, since no record of the upload was found"


def result_json(result: restore.request.RestoreResult) -> dict[str, Any]:
    """Return the result as one JSON object."""
    return {
        "run_id": result.request.run_id,
        "run_path": str(result.request.target),
        "url": result.request.url,
        "restored": result.ok,
        "whole": result.whole,
        "total_files": result.total_files,
        "total_bytes": result.total_size,
        "proven_files": len(result.verified_by),
        "proven_by": dict(sorted(result.proofs.items())),
        "restored_bytes": result.restored_size,
        "kept_files": len(result.kept),
        "failed": _printable(result.failed.items()),
        "frozen_files": len(result.frozen),
        "frozen_bytes": result.frozen_size,
        "thawing_files": result.requested,
        "ready_at": result.ready_at,
        "records": list(result.records),
        "unrecorded": [printable(path) for path in result.unrecorded],
        "files_without_time": result.without_time,
        "aws_processes": result.aws_processes,
        "seconds": round(result.seconds, 3),
    }


def cancel_lines(done: restore.cancel.Cancellation) -> list[str]:
    """Return lines about the restore that was ended."""
    request = done.request
    lines = [f"cancelled: the restore of {printable(request.run_id)} to {printable(str(request.target))}"]
    if done.requested:
        count = pluralize(done.requested, "object")
        lines.append(f"  the thawing of {count} cannot be cancelled; thawed copies expire on their own")
    if done.has_removed_files:
        lines.append("  files downloaded beside the run folder were removed; files moved into it are kept")
    return lines


def cancel_json(done: restore.cancel.Cancellation) -> dict[str, Any]:
    """Return the ended restore as one JSON object."""
    return {
        "run_id": done.request.run_id,
        "run_path": str(done.request.target),
        "url": done.request.url,
        "cancelled": True,
        "requested_files": done.requested,
        "removed_files": done.has_removed_files,
    }


def preview_lines(planned: restore.request.RestorePreview) -> list[str]:
    """Return what would be restored, and whether there is room for it."""
    request, where = planned.request, printable(str(planned.request.target))
    lines = [
        f"would restore {printable(request.run_id)}: {pluralize(planned.files, 'file')}, {human_bytes(planned.size)}",
        f"  from {printable(request.url)} to {where}",
    ]
    lines += [
        f"  {name}: {pluralize(files, 'file')}, {human_bytes(size)}"
        for name, (files, size) in sorted(planned.classes.items())
    ]
    if planned.frozen:
        known = [(planned.thawed, "thawed already"), (planned.ongoing, "being thawed")]
        known_text = "".join(f", {number:,} {what}" for number, what in known if number)
        files = f"{pluralize(planned.frozen, 'file')} in archives{known_text}"
        lines.append(f"  {files}: thawing takes up to {_hours(planned)}")
        if request.tier not in (None, planned.tier):
            lines.append(f"  --tier {request.tier} cannot thaw all of them")
    lines += tier_lines(planned.tiers)
    if planned.tiered > planned.tiers.total():
        count = pluralize(planned.tiered - planned.tiers.total(), "other object")
        lines.append(f"  {count} of {TIERED} may be in its archive tiers: not tried")
    if planned.present:
        lines.append(f"  {pluralize(planned.present, 'file')} on disk of the same size, to be compared")
    room = (
        f"  needs {human_bytes(planned.needed)} of disk, and {human_bytes(restore.space.SPARE_BYTES)} must stay free;"
    )
    room += f" {human_bytes(planned.free)} are free"
    lines.append(room if planned.has_room else f"{room}: NOT enough room")
    lines += _cost_lines(planned)
    lines.append(f"  would be compared with {', '.join(('S3', *planned.records))}")
    failed = list_by_reason(dict(planned.failed), " (--json names them all)")
    return [*lines, *([f"  {pluralize(len(planned.failed), 'file')} cannot be restored:", *failed] if failed else [])]


def _hours(planned: restore.request.RestorePreview) -> str:
    """Return how long thawing takes: with the tier of the request, or with each that can be chosen."""
    hours = planned.hours_by_tier
    chosen = {planned.tier: hours[planned.tier]} if planned.request.tier in hours else hours
    return " or ".join(f"{human_seconds(most * 3600)} with --tier {tier}" for tier, most in chosen.items())


def _cost_lines(planned: restore.request.RestorePreview) -> list[str]:
    """Return the estimated cost at the user's prices, and the prices that are missing."""
    cost = planned.cost
    if cost is None:
        return ["  cost: no estimate (set `prices` in the config, and give --config FILE)"]
    parts = {"retrieval": cost.retrieval, "requests": cost.requests, "transfer": cost.transfer}
    shown = ", ".join(f"{name} {amount:,.2f}" for name, amount in parts.items())
    tier = f" with --tier {planned.tier}" if planned.frozen else ""
    lines = [f"  cost: about {cost.total:,.2f} {cost.currency}{tier} ({shown})"]
    if cost.missing:
        lines.append(f"  not included, as `prices` in the config lacks it: {', '.join(cost.missing)}")
    return lines


def _cost_json(planned: restore.request.RestorePreview) -> dict[str, Any] | None:
    cost = planned.cost
    if cost is None:
        return None
    return {
        "currency": cost.currency,
        "tier": planned.tier,
        "retrieval": round(cost.retrieval, 4),
        "requests": round(cost.requests, 4),
        "transfer": round(cost.transfer, 4),
        "total": round(cost.total, 4),
        "missing_prices": list(cost.missing),
    }


def preview_json(planned: restore.request.RestorePreview) -> dict[str, Any]:
    """Return the preview as one JSON object."""
    classes = {name: {"files": files, "bytes": size} for name, (files, size) in sorted(planned.classes.items())}
    return {
        "run_id": planned.request.run_id,
        "run_path": str(planned.request.target),
        "url": planned.request.url,
        "dry_run": True,
        "total_files": planned.files,
        "total_bytes": planned.size,
        "storage_classes": classes,
        "archived_files": planned.frozen,
        "thawing_files": planned.ongoing,
        "thawed_files": planned.thawed,
        "archive_tiers": tiers_json(planned.tiers),
        "thaw_hours": planned.hours,
        "thaw_hours_by_tier": dict(planned.hours_by_tier),
        "cost_estimate": _cost_json(planned),
        "present_files": planned.present,
        "needed_bytes": planned.needed,
        "free_bytes": planned.free,
        "reserve_bytes": restore.space.SPARE_BYTES,
        "has_room": planned.has_room,
        "failed": _printable(planned.failed.items()),
        "records": list(planned.records),
    }


def _printable(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {printable(path): why for path, why in items}
