"""A function with a URL.

    uv run homeport serve examples/hello.py
    curl 'http://127.0.0.1:4664?name=Ada'

(`serve` prints the URL; the port may be another one if 4664 is taken.)
"""

import modal  # inside homeport, this is homeport: the script runs unchanged

app = modal.App("hello")


@app.function()
@modal.fastapi_endpoint()
def hello(name: str = "World"):
    return {"message": f"Hello, {name}!"}
