"""GPUs as they are: these tests need a machine with an NVIDIA GPU and its driver, and are skipped elsewhere."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists(), reason="there is no NVIDIA GPU here"
)

#: A kernel that doubles a number, for the driver's own compiler: no package is needed.
APP = '''
    import ctypes, glob, os, subprocess
    import modal

    PTX = b"""
    .version 6.0
    .target sm_50
    .address_size 64
    .visible .entry twice(.param .u64 place) {
      .reg .f32 %f<2>;
      .reg .b64 %rd<3>;
      ld.param.u64 %rd1, [place];
      cvta.to.global.u64 %rd2, %rd1;
      ld.global.f32 %f1, [%rd2];
      add.f32 %f1, %f1, %f1;
      st.global.f32 [%rd2], %f1;
      ret;
    }
    """

    app = modal.App("gpus", image=IMAGE)

    def twice(number):
        cu = ctypes.CDLL("libcuda.so.1")
        device, context, module, kernel = (ctypes.c_void_p() for _ in range(4))
        place, value, size = ctypes.c_uint64(), ctypes.c_float(number), ctypes.c_size_t(4)
        words = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(place), ctypes.c_void_p))
        codes = [
            cu.cuInit(0),
            cu.cuDeviceGet(ctypes.byref(device), 0),
            cu.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
            cu.cuCtxSetCurrent(context),
            cu.cuModuleLoadData(ctypes.byref(module), PTX),
            cu.cuModuleGetFunction(ctypes.byref(kernel), module, b"twice"),
            cu.cuMemAlloc_v2(ctypes.byref(place), size),
            cu.cuMemcpyHtoD_v2(place, ctypes.byref(value), size),
            cu.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, None, words, None),
            cu.cuMemcpyDtoH_v2(ctypes.byref(value), place, size),
        ]
        return value.value if not any(codes) else codes

    def seen():
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, env={"PATH": "/usr/bin:/usr/local/nvidia/bin"})
        opened = []
        for path in glob.glob("/dev/nvidia[0-9]*"):
            try:
                os.close(os.open(path, os.O_RDWR))
                opened.append(path)
            except OSError:
                pass
        return {"id": os.environ["MODAL_TASK_ID"], "smi": listed.stdout.count("UUID"), "opened": len(opened)}

    def web(function):
        import json

        def answer(environ, start):
            start("200 OK", [("content-type", "application/json")])
            return [json.dumps(function()).encode()]

        return answer

    @app.function(gpu="any")
    @modal.wsgi_app()
    def one():
        return web(lambda: {**seen(), "twice": twice(21.0)})

    @app.function(gpu="any")
    @modal.wsgi_app()
    def other():
        return web(seen)

    @app.function()
    @modal.wsgi_app()
    def without():
        return web(lambda: {"opened": seen()["opened"], "libcuda": bool(glob.glob("/usr/local/nvidia/lib64/libcuda*"))})
'''


def test_containers_take_turns_with_the_gpu_also_after_the_server_was_killed(
    terminal, write, visitor
):
    urls = terminal.deploy(write(APP.replace("IMAGE", "None")), timeout=120)
    one = visitor.get(urls["one"]).json()
    assert (1, 1, 42.0) == (one["smi"], one["opened"], one["twice"])
    assert 0 == visitor.get(urls["without"]).json()["opened"]
    (holder,) = (each for each in terminal.containers() if each["gpus"])
    assert one["id"] == holder["id"]

    os.kill(terminal.status()["pid"], signal.SIGKILL)
    terminal.run("up", timeout=120)
    assert one["id"] == visitor.get(urls["one"]).json()["id"]
    assert one["id"] != visitor.get(urls["other"]).json()["id"]
    # Where there is one GPU, the first container had to end for the second.
    wait_for(
        lambda: len([each for each in terminal.containers() if each["gpus"]]) <= _count(),
        "no more containers than GPUs",
    )


def test_an_image_with_a_root_of_its_own_has_the_driver(terminal, write, visitor, small):
    urls = terminal.deploy(write(APP.replace("IMAGE", small)), timeout=240)
    one = visitor.get(urls["one"]).json()
    without = visitor.get(urls["without"]).json()

    assert (1, 1, 42.0) == (one["smi"], one["opened"], one["twice"])
    assert {"opened": 0, "libcuda": False} == without


def _count() -> int:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    return listed.stdout.count("UUID: GPU")
