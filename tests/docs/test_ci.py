"""The workflow in the guide for CI: each of its `run:` lines is run, against a real server over TCP."""

import secrets
from pathlib import Path

import yaml

from tests.docs import blocks
from tests.docs.test_blocks import Reader
from tests.docs.test_blocks import reader as _reader

GUIDE = Path(__file__).parents[2] / "docs/guides/ci.md"
SCRIPT = """
import modal

app = modal.App("hello")


@app.function()
@modal.fastapi_endpoint()
def hello():
    return "hello"
"""

reader = _reader


def workflow() -> dict:
    [block] = [b for b in blocks.read(GUIDE.read_text()) if b.language == "yaml"]
    workflow = yaml.safe_load(block.text)
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads `on` as a bool
    return workflow


def steps(event: str) -> list[str]:
    """Return the commands that GitHub runs for an event; `pip install homeport` is done already."""
    [job] = workflow()["jobs"].values()
    commands = []
    for step in job["steps"]:
        condition = step.get("if", f"github.event_name == '{event}'")
        assert condition.startswith("github.event_name == '")
        if "run" in step and condition == f"github.event_name == '{event}'":
            commands.append(step["run"])
    return [line for line in commands if line != "pip install homeport"]


def test_the_workflow_of_the_guide_deploys_the_branch_and_previews_pull_requests(reader: Reader):
    token = secrets.token_hex(16)
    (reader.directory / "hello.py").write_text(SCRIPT)
    port = reader._here("4670")
    reader._run(f"HOMEPORT_TOKEN={token} HOMEPORT_API_PORT={port} homeport up")
    [job] = workflow()["jobs"].values()
    values = {
        "${{ secrets.HOMEPORT_SERVER }}": f"http://127.0.0.1:{port}",
        "${{ secrets.HOMEPORT_TOKEN }}": token,
        "${{ github.event.number }}": "17",
    }
    for name, value in job["env"].items():
        reader._run(f"export {name}={values[value]}")
    reader._run("export COLUMNS=300")
    pushed = [reader._run(line) for line in steps("push")]
    outputs = [reader._run(line) for line in steps("pull_request")]

    assert {"push", "pull_request"} == set(workflow()["on"])
    assert (1, 2) == (len(pushed), len(outputs))
    assert "hello v1" in pushed[0]
    assert "pr-17 v1" in outputs[0]
    assert "pr-17" in outputs[1]
    assert "Expires at" in outputs[1]
    apps = {app["name"]: app for app in reader.terminal.status()["apps"]}
    assert apps["hello"]["expires_at"] is None
    lifetime_s = apps["pr-17"]["expires_at"] - apps["pr-17"]["created_at"]
    assert 7 * 86400 <= lifetime_s < 7 * 86400 + 600
