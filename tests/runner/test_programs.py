"""Programs that a container starts: they know what the container knows."""

from homeport.contract.manifest import VolumeMount
from tests.ports import free_port

SCRIPT = """\
import os, subprocess, sys
import modal
app = modal.App("a")

@app.function()
@modal.fastapi_endpoint()
def hello():
    words = [sys.executable, "-c", {code!r}]
    environ = {{**os.environ, "MODAL_IS_REMOTE": "1"}}  # which the node sets
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()
"""
REACH = """
import homeport
from homeport.sdk import context
reach = context.reach()
print(reach.socket, reach.app, reach.scope, homeport.is_local())
"""
VOLUME = """
import homeport
volume = homeport.Volume.from_name("files")
volume.reload()
print([entry.path for entry in volume.listdir("/")])
"""
QUEUE = """
import homeport
homeport.Queue.from_name("words", create_if_missing=True).put("hello")
"""


def test_a_program_calls_functions_by_the_containers_socket(start):
    runner = start(SCRIPT.format(code=REACH), calls="/run/calls.sock").ready()

    assert "/run/calls.sock app  False" == runner.client.get("/").json()


def test_a_program_uses_the_containers_volumes(start, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").write_text("a")
    mount = VolumeMount(path=str(tmp_path / "files"), name="files", key="w/main/vo-1")
    runner = start(SCRIPT.format(code=VOLUME), volumes=(mount,)).ready()

    assert "['a.txt']" == runner.client.get("/").json()


def test_a_program_of_a_container_without_access_may_not_speak_to_the_server(start):
    runner = start(SCRIPT.format(code=QUEUE), calls="").ready()

    assert "may not speak to the server" in runner.client.get("/").json()


def test_an_enter_hook_may_start_the_program_of_a_web_server(start):
    port = free_port()
    runner = start(
        f"""
        import subprocess, sys
        import modal
        app = modal.App("a")

        @app.cls()
        class Files:
            @modal.enter()
            def begin(self):
                words = ["-m", "http.server", "{port}", "--bind", "127.0.0.1"]
                self.process = subprocess.Popen([sys.executable, *words])

            @modal.web_server({port})
            def serve(self):
                pass

            @modal.exit()
            def stop(self):
                self.process.terminate()
        """,
        web={"Files.serve": f"web_server:{port}"},
        is_class=True,
    ).ready()

    assert "script.py" in runner.client.get("/", headers={"Connection": "close"}).text
    assert 0 == runner.terminate()
