"""What people get wrong: a type checker finds each line that says so, and no other."""

import modal
from modal import image as images

app = modal.App("typed", imge=None)  # wrong
found: images.Image = modal.Imag.debian_slim()  # wrong


@app.function(memroy=128)  # wrong
def misspelt() -> None: ...


@app.function(timeout="60", gpu=3)  # wrong
def mistyped() -> None: ...


@app.cls(schedule=modal.Cron("* * * * *"))  # wrong
class Model:
    size: int = modal.parameter(default=1)

    @modal.method()
    def predict(self, x: float) -> float:
        return x


@app.function()
@modal.fastapi_endpoint(metod="POST")  # wrong
def endpoint() -> str:
    return ""


@app.function()
@modal.web_server("8000")  # wrong
def program() -> None: ...


@app.function()
def square(x: int) -> int:
    return x * x


text: str = square.remote(2)  # wrong
square.local("2")  # wrong
square.loacl(2)  # wrong
square(2)  # wrong
Model(sice=2)  # wrong
Model().predict.remote("2")  # wrong
modal.Secret.from_nam("x")  # wrong
modal.Image.debian_slim(3.12).pip_instal("x")  # wrong
modal.concurrent(max_input=3)  # wrong
modal.Image.debian_slim().pip_install("x", force_biuld=True)  # wrong
modal.Image.debian_slim().run_commands("x", env=["A=1"])  # wrong
