"""The files of FastAPI's pages `/docs` and `/redoc`: the node lays them, and containers serve them."""

#: A folder beside homeport's code, on `sys.path` of each container. It has each file as `NAME.gz`.
FOLDER = "openapi-pages"
#: The files, and their types.
KINDS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}
