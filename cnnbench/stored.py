"""A run folder taken up again by a verb: it may come from a stranger, and its config names code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cnnbench.config import spec_from
from cnnbench.errors import CnnbenchError
from cnnbench.results import RunFolder
from cnnbench.run_files import CONFIG
from cnnbench.spec import RunSpec
from cnnbench.trust import refuse_links, require_own


def stored_spec(
    folder: RunFolder,
    trust_plugins: bool = False,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> RunSpec:
    """The spec of a run, from what is written down in its folder.

    Args:
        folder: of the run.
        trust_plugins: import what it names, though this user has not typed it on this machine.
        changed: from its config to the one that is meant.

    Raises:
        CnnbenchError: its plugins are not trusted; it holds links to elsewhere; its config is wrong.
    """
    refuse_links(folder.path)
    if not trust_plugins:
        require_own(folder.config, folder.path)
    try:
        return spec_from(changed(folder.config), folder.path, folder.overrides)
    except CnnbenchError as error:  # cut short, perhaps, or written by another version
        raise CnnbenchError(f"{folder.path / CONFIG}: {error.message}", error.hint) from error
