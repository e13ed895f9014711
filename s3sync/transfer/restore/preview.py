"""Preview a restore: files, bytes and storage classes, hours until thawed, room on the disk, and the cost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping

from s3sync.aws import thaw
from s3sync.transfer.request.storage_classes import WARM
from s3sync.transfer.restore import cost, place, space
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.request import RestorePreview, RestoreRequest

_CHEAPEST: thaw.Tier = "Bulk"  # the tier that is assumed if none is given


def make_preview(
    request: RestoreRequest,
    plan: RestorePlan,
    states: Mapping[str, thaw.ThawState],
    in_tiers: Mapping[str, thaw.ThawState],
) -> RestorePreview:
    """Return the preview of a plan; nothing is written.

    `states` are those of archived objects that are known, `in_tiers` those of objects of INTELLIGENT_TIERING.
    """
    remote, wanted = plan.remote, plan.wanted
    frozen_in_tiers = [path for path, state in in_tiers.items() if state != "thawed"]
    classes: dict[str, tuple[int, int]] = {}
    for path in wanted:
        name = remote[path].storage_class or WARM
        files, size = classes.get(name, (0, 0))
        classes[name] = files + 1, size + remote[path].size
    present = {path for path in wanted if place.size_on_disk(request.target, path) == remote[path].size}
    ready = place.PrivateFolder(request).ready
    fetched = [path for path in wanted if path not in present and place.size_on_disk(ready, path) != remote[path].size]
    archives = set(classes) & set(thaw.ARCHIVES) | ({thaw.TIERED} if frozen_in_tiers else set())
    hours = thaw.hours_by_tier(archives)
    tier = request.tier if request.tier in hours else _CHEAPEST
    requested = [path for path in fetched if states.get(path, "frozen") != "frozen"]
    others = {*fetched} - {*requested}
    needs = cost.needs_of(
        (remote[path] for path in others), request.multipart, tier, (remote[path] for path in requested)
    )
    return RestorePreview(
        request=request,
        files=len(wanted),
        size=plan.size_of(wanted),
        classes=classes,
        frozen=sum(files for name, (files, _) in classes.items() if name in thaw.ARCHIVES) + len(frozen_in_tiers),
        ongoing=sum(state == "ongoing" for state in (*states.values(), *in_tiers.values())),
        thawed=sum(state == "thawed" for state in states.values()),
        tiers=Counter(in_tiers.values()),
        tiered=sum(thaw.may_be_in_archive_tier(remote[path]) for path in wanted),
        hours=thaw.hours_to_thaw(archives, tier),
        hours_by_tier=hours,
        present=len(present),
        needed=space.needed_bytes(remote, fetched),
        free=shutil.disk_usage(request.target.parent).free,
        failed=plan.unusable,
        records=tuple(plan.record.sources),
        tier=tier,
        cost=cost.estimate(request.prices, needs) if request.prices else None,
    )
