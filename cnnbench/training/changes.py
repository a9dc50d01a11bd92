"""Check that a resumed run has the config, data and code it began with, or that changes are accepted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cnnbench import runs
from cnnbench.data import Dataset
from cnnbench.errors import CnnbenchError
from cnnbench.renamed import with_current_targets
from cnnbench.system import plain

log = logging.getLogger("cnnbench")


class Continuation:
    """Comparison of a run's beginning with what it is to go on with.

    Args:
        folder: of the run, held.
        config: of the run as it is to be made now.
        resumed: the run was begun before.
        accepted: go on with changes, and record them.

    Attributes:
        changes: one text for each accepted change.
    """

    def __init__(
        self, folder: runs.RunFolder, config: Mapping[str, Any], resumed: bool, accepted: bool
    ) -> None:
        self.folder, self.config, self.resumed, self.accepted = folder, config, resumed, accepted
        self.began = _recorded(folder) if resumed else None
        self.changes: list[str] = []

    def check_config(self) -> None:
        """Compare config, plugins and files of weights; other places are no change.

        Raises:
            ChangedError: they are others.
        """
        if self.began is None:
            return
        found = [runs.config_changes(self.began.config, one) for one in (self.folder.config, self.config)]
        self._refuse(runs.CONFIG, list(dict.fromkeys([*found[0], *found[1]])))
        self._refuse("the code", runs.code_changes(self.began, self.config))

    def check_data(self, source: Dataset, dataset: Dataset) -> runs.Identity:
        """Compare the data, and return the run's identity as it is now.

        Args:
            source: the data set as it came.
            dataset: with the splits of the run.

        Raises:
            ChangedError: they are others.
        """
        now = runs.Identity.of(self.config, source, dataset)
        if self.began is not None:
            self._refuse("the data", runs.data_changes(self.began, now))
        else:  # version 0.1.0 has written down one fingerprint
            before = recorded_environment(self.folder).get("dataset", {}).get("fingerprint")
            if before not in (None, dataset.fingerprint):
                self._refuse("the data", runs.split_changes({}, {}))
        return now

    def write(self, now: runs.Identity) -> None:
        """Write the config and identity with which the run goes on, and log what has changed."""
        if self.resumed and with_current_targets(self.folder.config) != plain(self.config):
            self.folder.write_config(self.config, self.folder.overrides)  # with the places of now
        if self.began is None or self.changes:
            self.folder.write_identity(now)
        elif dict(self.began.config) != dict(now.config):
            self.folder.write_identity(replace(self.began, config=now.config))
        for change in self.changes:
            log.warning("going on with a change: %s", change)

    def _refuse(self, what: str, changes: list[str]) -> None:
        if changes and not self.accepted:
            raise runs.ChangedError(self.folder.path, what, changes)
        self.changes += [f"{what}: {change}" for change in changes]


def _recorded(folder: runs.RunFolder) -> runs.Identity | None:
    """Read what the run began with; None, with a warning, where it is not known."""
    try:
        began = folder.identity
    except CnnbenchError as error:
        log.warning("%s: what has changed since the run began cannot be told", error.message)
        return None
    if began is None and folder.history:
        log.warning(
            "begun by an earlier version, which did not write down its config and code: "
            "whether they have changed cannot be told"
        )
    return began


def recorded_environment(folder: runs.RunFolder) -> dict[str, Any]:
    """Read `environment.json`; a damaged one counts as none, since a run that goes on makes it anew."""
    try:
        return folder.environment
    except CnnbenchError:
        log.warning("environment.json is damaged and made anew")
        return {}
