"""For type checkers and editors. At run time sdk/alias.py imports the name."""

from homeport import asgi_app as asgi_app
from homeport import batched as batched
from homeport import concurrent as concurrent
from homeport import enter as enter
from homeport import exit as exit
from homeport import fastapi_endpoint as fastapi_endpoint
from homeport import method as method
from homeport import web_endpoint as web_endpoint
from homeport import web_server as web_server
from homeport import wsgi_app as wsgi_app
