"""Files of a folder on local disk or at any fsspec address (s3://, hf://, memory://, https://)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from voiceflow.config import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_TRIES = 3
_PATIENCE_SECONDS = 0.5  # before the second try, twice that before the third


def is_remote(address: str) -> bool:
    """Whether an address is a URL (`scheme://...`, also chained: `simplecache::s3://...`)."""
    return "://" in address


class Store:
    """A folder that is only read. It may be pickled: another process opens it anew.

    Raises UserError where no filesystem is known for the address, or its package is missing.
    """

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address
        try:
            self._fs, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UserError(f"{address} cannot be opened: {error}") from error
        self._root = root.rstrip("/")

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.address,)

    def exists(self, name: str) -> bool:
        """Whether there is a file `name`."""
        return bool(self._tried(name, lambda: self._fs.exists(f"{self._root}/{name}")))

    def names(self, folder: str, suffix: str) -> list[str]:
        """The files of a folder whose names end in `suffix`, in order, as `folder/name`."""
        found = self._tried(folder, lambda: self._fs.ls(f"{self._root}/{folder}", detail=False))
        names = sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)
        return [f"{folder}/{n}" for n in names if n.endswith(suffix) and not n.startswith(".")]

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return bytes(self._tried(name, lambda: self._fs.cat_file(f"{self._root}/{name}")))

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file, or some of its columns."""
        import pyarrow.parquet as pq

        def read() -> pa.Table:
            with self._fs.open(f"{self._root}/{name}", "rb") as file:
                return pq.read_table(file, columns=columns)

        return self._tried(name, read)

    def _tried(self, name: str, read: Any) -> Any:
        """What `read` gives, if need be at the third try; UserError names the file."""
        import pyarrow as pa

        for attempt in range(_TRIES):
            try:
                return read()
            except FileNotFoundError as error:
                raise UserError(f"{self.address}/{name}: no such file") from error
            except pa.ArrowInvalid as error:
                raise UserError(f"{self.address}/{name} is damaged ({error})") from error
            except OSError as error:
                if attempt == _TRIES - 1:
                    raise UserError(f"{self.address}/{name} cannot be read ({error})") from error
                time.sleep(_PATIENCE_SECONDS * 2**attempt)
        raise AssertionError
