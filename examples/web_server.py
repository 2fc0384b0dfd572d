"""Any program that listens on a port: here aiohttp, in a process of its own.

uv run --with aiohttp homeport serve examples/web_server.py
"""

import subprocess
import sys

import homeport

app = homeport.App("anything")

PORT = 8765

SERVER = f"""
from aiohttp import web

async def answer(request):
    return web.json_response({{"method": request.method, "path": request.raw_path}})

server = web.Application()
server.router.add_route("*", "/{{tail:.*}}", answer)
web.run_app(server, host="127.0.0.1", port={PORT}, print=None)
"""


@app.function()
@homeport.concurrent(max_inputs=50)
@homeport.web_server(PORT, startup_timeout=30)
def serve():
    subprocess.Popen([sys.executable, "-c", SERVER])
