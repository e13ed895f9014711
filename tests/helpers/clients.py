"""Run the tests that send files with the AWS CLI itself twice: with the plugin in it, and without."""

from __future__ import annotations

import pytest

from tests.helpers import tiers

MARKER = "without_plugin"
_TIERS = {"faults", "contract"}
_REAL_CLIS = {"each_aws", "each_real_aws"}  # fixtures
_DOUBLE = "quick_aws"


def parametrize_client(metafunc: pytest.Metafunc) -> None:
    """Add the fixture `transfer_client` to a test for which it makes a difference, if `-m` names the marker."""
    if MARKER in metafunc.config.option.markexpr and _depends_on_client(metafunc):
        without = pytest.param("default", marks=getattr(pytest.mark, MARKER))
        metafunc.parametrize("transfer_client", ["auto", without], indirect=True)


def is_in_vain(item: pytest.Item) -> bool:
    """Return whether a test runs the double of the CLI a second time, which does not change."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("transfer_client") == "default" and parameters.get("each_aws") == "quick"


def _depends_on_client(metafunc: pytest.Metafunc) -> bool:
    test = metafunc.definition
    fixtures = set(metafunc.fixturenames)
    markers = {*tiers.markers_of(test.path, test.name), *(marker.name for marker in test.iter_markers())}
    uses_cli = "real_aws" in markers or not _REAL_CLIS.isdisjoint(fixtures)
    sends = "tmp_path" in fixtures and _DOUBLE not in fixtures
    return uses_cli and sends and not _TIERS.isdisjoint(markers) and "any_client" not in markers
