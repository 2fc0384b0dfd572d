"""Each example, by the command that it begins with."""

import re
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.waiting import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


def check_hello(terminal, visitor, url):
    assert {"message": "Hello, Ada!"} == visitor.get(url, params={"name": "Ada"}).json()


def check_fastapi_app(terminal, visitor, url):
    assert 1929 == visitor.get(f"{url}/books/1").json()["year"]
    made = visitor.post(f"{url}/books", json={"title": "Orlando", "year": 1928})
    assert {"number": 2} == made.json()
    assert 404 == visitor.get(f"{url}/books/3").status_code
    assert 200 == visitor.get(f"{url}/docs").status_code


def check_flask_app(terminal, visitor, url):
    assert {"count": 1} == visitor.post(url, content="milk").json()
    assert {"notes": ["milk"], "you": "127.0.0.1"} == visitor.get(url).json()
    assert "0\n1\n2\n3\n4\n" == visitor.get(f"{url}/count").text


def check_web_server(terminal, visitor, url):
    assert {"method": "PUT", "path": "/x%20y"} == visitor.put(f"{url}/x%20y").json()


def check_websocket_chat(terminal, visitor, url):
    assert "new WebSocket" in visitor.get(url).text
    base = url.replace("http", "ws") + "/ws"
    with connect(base, proxy=None) as one, connect(base, proxy=None) as two:
        two.send("ahoy")
        assert "ahoy" == one.recv() == two.recv()


def check_sse_tokens(terminal, visitor, url):
    told = visitor.get(url, params={"prompt": "one two", "pause": "0"})
    assert "data: one\n\ndata: two\n\nevent: done\ndata: \n\n" == told.text
    assert told.headers["content-type"].startswith("text/event-stream")


def check_classifier(terminal, visitor, url):
    told = visitor.post(url, json={"measurements": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]})
    assert {"kinds": ["setosa", "virginica"]} == told.json()
    assert 422 == visitor.post(url, json={"measurements": [[1]]}).status_code


def check_auth(terminal, visitor, _url):
    urls = terminal.urls()
    assert 401 == visitor.get(urls["protected"]).status_code
    token = terminal.json("proxy-token", "create")
    told = visitor.get(urls["protected"], headers={"Authorization": token["Authorization"]})
    assert {"result": "HELLO"} == told.json()
    assert 401 == visitor.post(urls["bearer"], json={}).status_code
    good = visitor.post(urls["bearer"], json={"a": 1}, headers={"Authorization": "Bearer sesame"})
    assert {"result": {"a": 1}} == good.json()


def commands(path: Path) -> list[str]:
    """Return the commands that an example says at its top."""
    found = r"^ *uv run (?:--with \S+ )?homeport (.+)"
    return re.findall(found, path.read_text(), re.MULTILINE)


def serves(path: Path) -> bool:
    return any(command.startswith("serve ") for command in commands(path))


@pytest.mark.parametrize(
    "path", list(filter(serves, sorted(EXAMPLES.glob("*.py")))), ids=lambda path: path.stem
)
def test_an_example_does_what_it_says(terminal, visitor, path):
    *before, last = commands(path)
    assert last.startswith(f"serve examples/{path.name}")
    for command in before:
        terminal.run(*command.split())
    command = terminal.serve(path)
    url = command.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)
    globals()[f"check_{path.stem}"](terminal, visitor, url)

    assert 0 == command.interrupt()
    assert "Traceback" not in command.output


def test_the_examples_of_calls_do_what_they_say(terminal, visitor):
    """One server for all of them."""
    paths = sorted(path for path in EXAMPLES.glob("*.py") if not serves(path))
    terminal.run("up")
    urls = {}
    for path in paths:
        first = commands(path)[0].split()
        if first[0] == "deploy":
            urls |= terminal.deploy(path)
    for path in paths:
        globals()[f"check_{path.stem}"](terminal, visitor, urls)


def check_job_queue(terminal, visitor, urls):
    job = visitor.post(urls["submit"], params={"text": "to be or not to be"}).json()["job"]

    def told():
        answer = visitor.get(urls["result"], params={"job": job})
        assert answer.status_code in (200, 202)
        return answer.json() if answer.status_code == 200 else None

    assert {"to": 2, "be": 2, "or": 1, "not": 1} == wait_for(told, "the job's result")
    assert 404 == visitor.get(urls["result"], params={"job": "fc-" + "0" * 40}).status_code


def check_weather_station(terminal, visitor, urls):
    (reading, *_) = wait_for(lambda: visitor.get(urls["latest"]).json(), "a reading")
    assert {"at", "load", "cores"} == set(reading)
    (app,) = (app for app in terminal.status()["apps"] if app["name"] == "weather")
    runs = {function["name"]: function["next_run"] for function in app["functions"]}
    assert runs["latest"] is None
    assert runs["measure"] > reading["at"]


def check_scraper(terminal, visitor, urls):
    pages = f"{urls['words']}?title=Moby-Dick {urls['best']}?text=town file:///etc/passwd"
    done = terminal.run("run", EXAMPLES / "scraper.py", "--urls", pages)
    assert 2 == done.stdout.count("'bytes': ")
    assert "failed: file:///etc/passwd is not the address of a web page" in done.stdout
    assert 2 == terminal.run("volume", "ls", "scraped-pages").stdout.count(".html")


def check_shared_model(terminal, visitor, urls):
    told = visitor.get(urls["similar"], params={"text": "a ship at sea"}).json()
    assert {"Moby-Dick", "Robinson Crusoe"} == {title for title, _ in told}
    assert "Middlemarch" == visitor.get(urls["best"], params={"text": "a small town"}).json()
    assert "whale" in visitor.get(urls["words"], params={"title": "Moby-Dick"}).json()
    (app,) = (app for app in terminal.status()["apps"] if app["name"] == "library")
    (model,) = (function for function in app["functions"] if function["name"] == "Library.*")
    assert 1 == model["containers"]
