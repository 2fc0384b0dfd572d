"""Makes the pictures of docs/guides/dashboard.md, of a homeport with some apps and visitors:

    python -m tests.dashboard.pictures [DIRECTORY]

Look at each of them before you keep it.
"""

import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests import chromium

OWN = Path(__file__).parents[2] / "docs/assets/dashboard"
SHOP = """
    import time
    import homeport

    app = homeport.App("{name}")
    volume = homeport.Volume.from_name("models", create_if_missing=True)

    @app.function(volumes={{"/models": volume}})
    @homeport.fastapi_endpoint(docs=True)
    def price(item: str = "tea", grams: int = 100):
        print(f"price of {{grams}} g {{item}}")
        time.sleep({wait})
        return {{"item": item, "eur": round(grams * 0.032, 2)}}

    @app.function()
    @homeport.fastapi_endpoint(method="POST")
    def order(item: str):
        print(f"WARNING: {{item}} is nearly sold out")
        if item == "coffee":
            raise ValueError("there is no coffee")
        return {{"ordered": item}}

    @app.function(schedule=homeport.Period(hours=6))
    def report():
        with open("/models/weights.bin", "wb") as file:
            file.write(bytes(5_000_000))
"""
#: Name of a picture -> page, and whether a narrow one and a dark one are made too.
PAGES = {
    "home": ("/", True),
    "endpoint": ("/endpoint?app=shop&tag=price&span=15m", True),
    "request": ("cold", False),
    "log": ("/logs?app=shop", False),
    "changes": ("/app/changes?name=shop&before=1&after=2", False),
    "deploys": ("/deploys", False),
    "try": ("/try?app=shop&tag=price&openapi=1", False),
}


class Terminal:
    """The commands of a user with a home of their own."""

    def __init__(self, home: Path) -> None:
        self._environ = {
            "HOMEPORT_HOME": str(home),
            "HOMEPORT_HTTP_PORT": "0",
            "HOMEPORT_WORKSPACE": "ada",
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
        }

    def run(self, *words: str) -> str:
        """Run a command; return what it prints."""
        argv = [sys.executable, "-m", "homeport", *words]
        done = subprocess.run(
            argv, env=self._environ, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()


@contextmanager
def shown() -> Iterator[tuple[chromium.Browser, str]]:
    """Yield a browser that is logged in to a homeport with some apps, and the id of a cold request."""
    with tempfile.TemporaryDirectory() as place:
        terminal = Terminal(Path(place) / "home")
        try:
            _deploy(terminal, Path(place))
            link = terminal.run("dashboard", "--no-open")
            cold = _visit(terminal)
            with chromium.running(Path(place)) as browser:
                browser.look(wide=1600)
                browser.open(link)
                browser.wait("!document.getElementById('by-link').hidden")
                browser.ask("document.getElementById('enter').click(); 1")
                browser.wait("!!document.querySelector('#endpoints svg')")
                yield browser, cold
        finally:
            terminal.run("down")


def _deploy(terminal: Terminal, place: Path) -> None:
    terminal.run("up")
    for name, wait, tag in (
        ("shop", 0.02, "opened"),
        ("shop", 0.004, "faster"),
        ("depot", 0.03, ""),
    ):
        script = place / f"{name}.py"
        script.write_text(textwrap.dedent(SHOP.format(name=name, wait=wait)))
        terminal.run("deploy", str(script), *(("--tag", tag) if tag else ()))
    terminal.run("secret", "create", "mail", "PASSWORD=x")


def _visit(terminal: Terminal) -> str:
    """Make some requests, one of them cold and some of them wrong; return the id of the cold one."""
    import json

    status = json.loads(terminal.run("status", "--json"))
    urls = {
        f"{app['name']}.{each['tag']}": each["local_url"]
        for app in status["apps"]
        for each in app["endpoints"]
        if each["url"]
    }
    for container in json.loads(terminal.run("container", "list", "--json")):
        if container["function"] == "price":
            terminal.run("container", "stop", container["id"], "--yes")
    with httpx.Client(trust_env=False, timeout=60.0) as http:
        cold = http.get(urls["shop.price"]).headers["x-request-id"]
        for place in range(150):
            http.get(urls["shop.price"], params={"grams": place})
            if place % 5 == 0:
                http.get(urls["depot.price"])
                item = "coffee" if place == 100 else "tea"
                http.post(urls["shop.order"], params={"item": item})
    return str(cold)


def main(directory: Path) -> None:
    """Make all pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with shown() as (browser, cold):
        origin = browser.ask("location.origin")
        for name, (page, in_all) in PAGES.items():
            path = f"/request?id={cold}" if page == "cold" else page
            browser.open(origin + path)
            browser.wait("document.readyState === 'complete'")
            browser.wait(
                "!document.querySelector('.log') || document.querySelectorAll('.log li').length > 5"
            )
            for wide in (1600, 400) if in_all else (1600,):
                for scheme in ("light", "dark") if in_all else ("light",):
                    browser.look(wide=wide, high=900, scheme=scheme)
                    last = f"{name}-{wide}-{scheme}.png" if in_all else f"{name}.png"
                    (directory / last).write_bytes(browser.picture())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OWN)
