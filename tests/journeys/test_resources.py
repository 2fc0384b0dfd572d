"""A function gets the memory and devices that it asks for, and its own /tmp."""

from pathlib import Path

import httpx

from tests.waiting import wait_for

APP = """
    import os, subprocess
    import modal

    app = modal.App("asks")

    @app.function(memory=(64, 200), ephemeral_disk=50, cpu=(0.25, 1.0))
    @modal.concurrent(max_inputs=2)
    @modal.fastapi_endpoint()
    def asks(mib: int = 0, name: str = ""):
        if name:
            with open(f"/tmp/{name}", "w") as file:
                file.write("mine")
        eaten = bytearray(b"x" * (mib << 20))
        shell = subprocess.run(["ls", "/tmp"], capture_output=True, text=True, check=True)
        if eaten:
            input_never_comes = os.open("/dev/zero", os.O_RDONLY)
            while os.read(input_never_comes, 1):
                pass
        return {"tmp": sorted(shell.stdout.split()), "cores": len(os.sched_getaffinity(0)),
                "cuda": os.environ["CUDA_VISIBLE_DEVICES"]}
"""


def test_a_function_has_what_it_asks_for_and_no_more(terminal, write, visitor):
    terminal.environ["HOMEPORT_CGROUP"] = "off"  # for the kernel's limits: tests/soak/cgroups.py
    (url,) = terminal.deploy(write(APP)).values()
    first = visitor.get(url, params={"name": "a-file-of-mine"}).json()
    # On a connection of its own: on a kept one, a crash is a silent close.
    over = httpx.get(url, params={"mib": 400}, timeout=60, trust_env=False)
    wait_for(
        lambda: (
            "MiB of memory, and its limit is 200 MiB" in terminal.run("app", "logs", "asks").stdout
        ),
        "the reason in the log",
    )
    after = httpx.get(url, timeout=60, trust_env=False).json()

    assert "a-file-of-mine" in first["tmp"]
    assert not Path("/tmp/a-file-of-mine").exists()
    assert (1, "") == (first["cores"], first["cuda"])
    assert 502 == over.status_code
    assert "a-file-of-mine" not in after["tmp"]  # another container's


GPU = """
    import modal

    app = modal.App("wants")

    @app.function(gpu="L40S", memory=10**9)
    @modal.fastapi_endpoint()
    def wants():
        return "VERSION"
"""


def test_a_device_that_the_machine_lacks_fails_a_deploy_and_serve_says_so_once(
    terminal, write, visitor
):
    script = write(GPU)
    deployed = terminal.run("deploy", script, check=False)
    served = terminal.serve(script)
    url = served.wait_for(r"http://127\.0\.0\.1:\d+")[0]
    first = visitor.get(url).json()
    begun = len(served.lines)
    script.write_text(script.read_text().replace("VERSION", "two"))
    served.wait_for("eload", after=begun)

    assert (1, "VERSION") == (deployed.returncode, first)
    assert "error: `wants` asks for a GPU (L40S), and this machine has none" in deployed.stderr
    assert "script.py:6" in deployed.stderr
    assert "hint: `homeport serve` runs it with what there is" in deployed.stderr
    assert 1 == served.output.count("asks for a GPU (L40S), and this machine has none")
