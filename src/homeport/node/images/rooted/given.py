"""The local files that a deploy has uploaded for an image's steps, by their hashes."""

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from homeport.contract.errors import ImageError


class Given:
    """The files of one deploy, in a directory beside its source tree."""

    def __init__(self, source: Path) -> None:
        self._directory = source.with_name(f"{source.name}.build")

    def local(self, digest: str, name: str) -> Path:
        """Return the path of the file with this hash; `name` is for the error."""
        path = self._directory / digest
        if "/" in digest or not path.is_file():
            raise ImageError(f"the content of `{name}` was not uploaded")
        return path

    def lay_out(self, files: Mapping[str, str], target: Path) -> None:
        """Copy files to their paths below `target`; the one file that has an empty path is `target` itself."""
        if "" in files:
            shutil.copy(self.local(files[""], target.name), target)
            return
        target.mkdir()
        for name, digest in files.items():
            place = target / name
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise ImageError(f"`{name}` lies outside the directory of the build")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.local(digest, name), place)


def write_archive(path: Path, files: Mapping[str, tuple[Path, int | None]]) -> None:
    """Write files into an archive: place -> the file, and its mode if that is not the file's own. Blocks."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for place, (local, mode) in sorted(files.items()):
            status = local.stat()
            member = tarfile.TarInfo(place.strip("/"))
            member.size, member.mtime = status.st_size, int(status.st_mtime)
            member.mode = mode or (0o755 if status.st_mode & 0o100 else 0o644)
            with local.open("rb") as file:
                tar.addfile(member, file)
    path.chmod(0o600)
