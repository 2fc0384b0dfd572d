"""The same answer by Flask."""

from flask import Flask, request

web = Flask(__name__)


@web.get("/")
def hello():
    return {"message": f"Hello, {request.args.get('name', 'World')}!"}
