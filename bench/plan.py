"""What every measure gets: how thorough to be, who takes part, where to write."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contenders.base import Contender
from bench.results import Findings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run."""

    contenders: Sequence[Contender]  # that were asked for, and installed
    findings: Findings
    root: Path  # for what is written meanwhile
    quick: bool

    def times(self, full: int, quick: int) -> int:
        """How often, in a full run and in a quick one."""
        return quick if self.quick else full

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty one."""
        path = Path(tempfile.mkdtemp(dir=self.root))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def peers(self) -> list[Contender]:
        """Everybody but homeport."""
        return [each for each in self.contenders if each.name != "homeport"]

    def say(self, text: str) -> None:
        """To whoever watches the run."""
        print(text, flush=True)

    def failed(self, what: str, error: BaseException) -> None:
        """Report it; the others go on."""
        self.findings.failures[what] = f"{type(error).__name__}: {error}"
        self.say(f"  failed: {what}: {type(error).__name__}: {error}")
