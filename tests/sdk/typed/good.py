"""An ordinary script, as people write it: no type checker finds anything in it, strict or not."""

from collections.abc import AsyncIterator

import modal
from fastapi import FastAPI
from modal.exception import InvalidError
from typing_extensions import assert_type

image = (
    modal.Image.debian_slim(python_version="3.12")
    .apt_install("ffmpeg")
    .pip_install("numpy", "torch==2.0", extra_index_url="https://example.com")
    .uv_pip_install(["httpx"], requirements=["requirements.txt"])
    .env({"HF_HOME": "/cache"})
    .run_commands("echo hello", secrets=[modal.Secret.from_name("hush")])
    .workdir("/root")
    .add_local_dir("data", "/root/data", ignore=["*.pyc"])
    .add_local_python_source("shop")
)
app = modal.App("typed", image=image, secrets=[modal.Secret.from_dict({"KEY": "value"})])
volume = modal.Volume.from_name("models", create_if_missing=True)

with image.imports():
    import json

web = FastAPI()


@app.function(
    cpu=(0.5, 2),
    memory=1024,
    gpu=["H100", "L40S:2"],
    timeout=60,
    min_containers=1,
    max_containers=5,
    scaledown_window=120,
    retries=modal.Retries(max_retries=3),
    volumes={"/models": volume},
    schedule=modal.Period(hours=1),
    secrets=[modal.Secret.from_name("hush", required_keys=["TOKEN"])],
)
def square(x: int, *, twice: bool = False) -> int:
    return x * x * (2 if twice else 1)


assert_type(square.local(2), int)
assert_type(square.remote(2, twice=True), int)


@app.function()
@modal.concurrent(max_inputs=10, target_inputs=5)
@modal.fastapi_endpoint(method="POST", docs=True, label="asked", requires_proxy_auth=True)
async def asked(name: str = "World") -> dict[str, str]:
    return {"message": f"Hello, {name}!", "json": json.dumps(modal.is_local())}


assert_type(asked.remote("you"), dict[str, str])
assert_type(asked.get_web_url(), str | None)


async def use() -> dict[str, str]:
    return await asked.local(name="you")


@app.function(enable_memory_snapshot=True)
@modal.asgi_app(label="whole", custom_domains=["shop.example.com"])
def whole() -> FastAPI:
    return web


@app.function()
@modal.web_server(8000, startup_timeout=30)
def program() -> None:
    pass


@app.function(gpu="A100")
def words(n: int) -> list[str]:
    return ["word"] * n


@app.cls(enable_memory_snapshot=True, scaledown_window=60)
@modal.concurrent(max_inputs=4)
class Model:
    size: int = modal.parameter(default=1)
    name: str = modal.parameter(default="small")

    @modal.enter(snap=True)
    def load(self) -> None:
        self.weights = [0.0] * self.size

    @modal.method()
    def predict(self, x: float) -> float:
        return x + self.weights[0]

    @modal.method()
    async def stream(self, x: float) -> str:
        return f"{self.predict(x)}"

    @modal.fastapi_endpoint(method="GET")
    def ask(self, x: float) -> dict[str, float]:
        return {"y": self.predict(x)}

    @modal.fastapi_endpoint()
    async def many(self) -> AsyncIterator[bytes]:
        yield b"x"

    @modal.exit()
    def leave(self) -> None:
        self.weights.clear()


@app.local_entrypoint()
def main(x: int = 2) -> None:
    model = Model()
    assert_type(model.predict.remote(2.0), float)
    assert_type(model.predict.local(2.0), float)
    assert_type(model.stream.remote(2.0), str)
    assert_type(model.size, int)
    try:
        print(square.remote(x), list(square.map([1, 2])))
    except InvalidError as error:
        print(error)


other = modal.Cls.from_name("other", "Model")
function = modal.Function.from_name("other", "f")
