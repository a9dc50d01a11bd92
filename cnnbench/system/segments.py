"""Rows of numbers in the user's cache, each kept under the digest of what it was computed from."""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.system.caches import make_room
from cnnbench.system.files import atomic, cache_folder, go_without_cache

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("cnnbench")
DIGEST = 16  # bytes of a row's digest
DAMAGE = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Segments:
    """Rows of one kind, in files of some hundred rows, each file written once and whole.

    Several processes may read and write at once: each writes files of its own, and sees what the others have
    written when it looks again. Without a cache all this does nothing.

    Args:
        cache: name of the cache.
        kind: what the rows are, ``NAME-`` and 20 hexadecimal digits.
        width: numbers in a row.
    """

    def __init__(self, cache: str, kind: str, width: int) -> None:
        self.folder, self.kind, self.width = cache_folder(cache), kind, width
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._seen: set[str] = set()

    def find(self, digests: Mapping[bytes, int]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield the rows that are kept, file by file: the numbers under their digests, and the rows."""
        self._look()
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for digest, number in digests.items():
            if (place := self._places.get(digest)) is not None:
                wanted.setdefault(place[0], []).append((number, place[1]))
        for path, places in wanted.items():
            if (found := self._read(path, "rows")) is not None:
                numbers, rows = zip(*places, strict=True)
                yield list(numbers), found[list(rows)]
                with suppress(OSError):  # what was used least recently goes first when the cache is full
                    os.utime(path)

    def keep(self, digests: Sequence[bytes], rows: np.ndarray) -> None:
        """Write rows ``(n, width)`` float32 into a file of their own."""
        import numpy as np

        if self.folder is None or not digests:
            return
        path = self.folder / f"{self.kind}.{os.urandom(8).hex()}.npz"
        try:
            make_room(self.folder, rows.nbytes)
            with atomic(path, "wb", lasting=False) as file:
                together = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST)
                np.savez(file, digests=together, rows=rows)
        except OSError as error:
            go_without_cache(error)
            self.folder = None
        else:
            self._seen.add(path.name)

    def _look(self) -> None:
        """Take up the files that have come."""
        if self.folder is None:
            return
        try:
            come = {path for path in self.folder.glob(f"{self.kind}.*.npz") if path.name not in self._seen}
        except FileNotFoundError:  # somebody has emptied the cache
            return
        for path in sorted(come):
            self._seen.add(path.name)
            if (digests := self._read(path, "digests")) is not None:
                self._places |= {bytes(digest): (path, row) for row, digest in enumerate(digests)}

    def _read(self, path: Path, what: str) -> np.ndarray | None:
        """Return the digests or rows of a file; None where it is gone, or damaged, and then it goes."""
        import numpy as np

        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found: np.ndarray = arrays[what]
                dtype, width = ("uint8", DIGEST) if what == "digests" else ("float32", self.width)
                if found.ndim != 2 or found.dtype != dtype or found.shape[1] != width:
                    raise ValueError(f"{what} of the form {found.dtype} {found.shape}")
                return found
        except FileNotFoundError:  # the cache was full, or emptied
            return None
        except OSError as error:  # of this moment, or of its owner: the file may be whole
            log.warning("%s cannot be read, so what it holds is computed again: %s", path, error)
            return None
        except DAMAGE as error:
            log.warning("%s is damaged, and what it held is made anew: %s", path, error)
            with suppress(OSError):
                path.unlink()
            return None
