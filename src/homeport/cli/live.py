"""Shows what takes long: on a terminal one live line for each thing, elsewhere plain lines.

A line appears when its work has lasted a moment, and disappears when the work is done. Rich draws it, in a thread of
its own, and writes what is printed meanwhile above it. The cursor is never hidden, so a command that is killed
leaves the terminal as it was.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from homeport.cli import output, terminal
from homeport.contract.output import PASSING
from homeport.contract.sizes import MIB

if TYPE_CHECKING:
    from rich.progress import Progress

    from homeport.contract.api import events

DELAY_S = 0.4  # shorter work has no line
BIG_BYTES = 8 * MIB  # an upload or a download of so much has a line elsewhere than on a terminal
KEPT_LINES = 2_000  # of a build, to show when it fails
BAR = 20
MARGIN = 4  # for the `^C` that a terminal shows: a full line would become two, and one would stay


def is_live() -> bool:
    """Return whether lines may move: not elsewhere than on a terminal, and not with NO_COLOR or CI."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return not plain and sys.stderr.isatty()


class Line:
    """A live line: a spinner with a text, or a bar if it is known how much there is to do.

    There is one at a time: work that is a part of other work has none.
    """

    _open: "Line | None" = None

    def __init__(self, what: str, *, plain: bool = False, at_once: bool = False) -> None:
        """With `plain` nothing is shown: the command prints JSON."""
        self._lock = threading.RLock()
        self._state: dict[str, Any] = {"what": what, "done": None, "total": None, "detail": ""}
        self._progress: Progress | None = None
        self._is_over = plain or not is_live() or Line._open is not None
        self._is_told = plain or is_live()
        if not self._is_over:
            Line._open = self
            self._timer = threading.Timer(0 if at_once else DELAY_S, self._begin)
            self._timer.daemon = True
            self._timer.start()

    def sized(self, done: int, total: int) -> None:
        """Show how many of these bytes have arrived."""
        if not self._is_told and total >= BIG_BYTES:
            output.say(f"{self._state['what']}: {_size(total)}")
            self._is_told = True
        self.show(done=done, total=total, detail=f"{_size(done)} of {_size(total)}")

    def show(self, **state: Any) -> None:
        """Change `what`, `done`, `total` or `detail`."""
        with self._lock:
            self._state |= state
            if self._progress is not None:
                self._progress.update(self._task, **self._fields())

    def close(self) -> None:
        """Remove the line."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            Line._open = None
            self._timer.cancel()
            progress, self._progress = self._progress, None
            output.above = None
        if progress is not None:
            progress.stop()

    def _begin(self) -> None:
        drawn = _drawn()
        with self._lock:
            if self._is_over:
                return
            self._task = drawn.add_task("", **self._fields())
            self._progress = drawn
            drawn.start()
            output.above = drawn.console

    def _fields(self) -> dict[str, Any]:
        state = self._state
        texts = {name: terminal.line(state[name]) for name in ("what", "detail")}
        return {**texts, "completed": state["done"] or 0, "total": state["total"]}


@contextmanager
def line(what: str, *, plain: bool = False) -> Iterator[Line]:
    """Show a live line while the block runs, if it lasts."""
    shown = Line(what, plain=plain)
    try:
        yield shown
    finally:
        shown.close()


class Builds:
    """Shows the progress of a deploy: a live line for each image that is built, with its steps.

    Where lines do not move, and if all lines are wanted, it prints the output of the builds.
    """

    def __init__(self, what: str = "", *, every: bool = False, plain: bool = False) -> None:
        """`what` is shown between the builds; `every`: print each line of a build."""
        self._what, self._plain = what, plain
        self._is_live = is_live() and not every and not plain
        self._between: Line | None = None
        self._image: Line | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    def begin(self) -> Self:
        """Show that work continues."""
        if self._is_live and self._what and self._between is None and self._image is None:
            self._between = Line(self._what)
        return self

    def show(self, event: "events.Progress") -> None:
        """Show the next event."""
        if not self._is_live:
            if not event.text.startswith(PASSING):
                output.say(event.text)
        elif event.steps:
            self._step(event)
        elif self._image is not None:
            text = event.text.removeprefix(PASSING)
            if text == event.text:
                self._lines.append(text)
            self._image.show(detail=text)
        elif event.text.startswith(PASSING):
            if self._between is not None:
                self._between.show(detail=event.text.removeprefix(PASSING))
        else:
            output.say(event.text)

    def _step(self, event: "events.Progress") -> None:
        if event.step == 0:
            self._close_image()
            output.say(f"✓ {event.text}")
            self.begin()
            return
        if self._image is None:
            self._end_between()
            self._image = Line(f"image of `{event.image}`", at_once=True)
            self._lines.clear()
        state = {"done": event.step - 1, "total": event.steps}
        text = event.text.partition(": ")[2]
        self._image.show(what=f"image of `{event.image}`: {text}", detail="", **state)

    def end(self) -> None:
        """Remove the lines, because something else is printed, or all is done."""
        self._end_between()
        self._close_image()

    def fail(self) -> None:
        """Remove the lines, and print all that the build has printed which failed."""
        is_building = self._image is not None
        self.end()
        if is_building and self._lines:
            output.say("\n".join(self._lines))

    def _end_between(self) -> None:
        if self._between is not None:
            self._between.close()
            self._between = None

    def _close_image(self) -> None:
        if self._image is not None:
            self._image.close()
            self._image = None


def _drawn() -> "Progress":
    """Return what Rich draws a line with; its text is data."""
    from rich.constrain import Constrain
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    class Bar(BarColumn):
        def render(self, task: Any) -> Any:
            return super().render(task) if task.total is not None else ""

    def text(field: str, **column: Any) -> TextColumn:
        narrow = Column(no_wrap=True, overflow="ellipsis", **column)
        return TextColumn(f"{{task.fields[{field}]}}", markup=False, table_column=narrow)

    console = output.err()
    console.show_cursor = _leave_cursor  # type: ignore[method-assign]

    class Narrow(Progress):
        def get_renderables(self) -> Iterator[Any]:
            for renderable in super().get_renderables():
                yield Constrain(renderable, console.width - MARGIN)

    return Narrow(
        SpinnerColumn(),
        text("what"),
        Bar(bar_width=BAR),
        TimeElapsedColumn(),
        text("detail", ratio=1),
        console=console,
        transient=True,
        refresh_per_second=8,
        expand=True,
        # Output to a file or a pipe must not be mixed with messages.
        redirect_stdout=sys.stdout.isatty(),
    )


def _leave_cursor(show: bool = True) -> bool:  # noqa: ARG001 - as Rich's
    """Show the cursor at all times, in the place of Rich's function."""
    return False


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MiB"
