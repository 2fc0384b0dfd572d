"""A Flask application: each request runs in a thread of its own.

uv run --with flask homeport serve examples/flask_app.py
"""

from flask import Flask, Response, jsonify, request

import homeport

app = homeport.App("notes")
web = Flask(__name__)
notes: list[str] = []


@web.get("/")
def index():
    return jsonify(notes=notes, you=request.remote_addr)


@web.post("/")
def add():
    notes.append(request.get_data(as_text=True))
    return jsonify(count=len(notes)), 201


@web.get("/count")
def count():
    # A generator streams: each piece is sent as it is yielded.
    return Response((f"{n}\n" for n in range(5)), mimetype="text/plain")


@app.function(max_containers=1)
@homeport.concurrent(max_inputs=20)
@homeport.wsgi_app()
def flask_app():
    return web
