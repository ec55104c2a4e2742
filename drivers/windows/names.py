"""File names as Windows finds them: in any case. What mounts a guest for writing wants them as they are spelt."""

from __future__ import annotations

from drivers.tree import FileType, GuestTree
from drivers.windows.c_regf import upper


class Names:
    """Finds paths of a guest's tree in any case; what each folder holds is listed once."""

    def __init__(self, tree: GuestTree) -> None:
        self.tree = tree
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> str | None:
        """A path as it is spelt in the guest; None when nothing is there.

        Where names differ by their case only, the one that is spelt as asked is taken, else the first.
        """
        found = ""
        for part in path.strip("/").split("/"):
            fitting = self._names(found or "/").get(upper(part), [])
            if not fitting:
                return None
            found = f"{found}/{part if part in fitting else fitting[0]}"
        return found

    def file(self, path: str) -> str | None:
        """The same for what is no folder."""
        found = self.find(path)
        try:
            is_folder = found is not None and self.tree.lstat(found).type is FileType.DIRECTORY
        except FileNotFoundError:
            return None
        return None if is_folder else found

    def _names(self, folder: str) -> dict[str, list[str]]:
        known = self._listed.get(folder)
        if known is None:
            known = self._listed[folder] = {}
            for name in self.tree.list(folder):
                known.setdefault(upper(name), []).append(name)
        return known
