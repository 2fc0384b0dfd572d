"""`web.py` on Ray Serve: one replica that takes all connections. The port is argument 1."""

import signal
import sys

import ray
from ray import serve

from web import web

# without it the replica would import `web.py` and find no such module: it is sent by value instead
ray.cloudpickle.register_pickle_by_value(sys.modules["web"])


@serve.deployment(num_replicas=1, max_ongoing_requests=1000)
@serve.ingress(web)
class Hello:
    pass


ray.init(include_dashboard=False, logging_level="warning", log_to_driver=False)
serve.start(
    http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
serve.run(Hello.bind(), route_prefix="/")
signal.sigwait({signal.SIGINT, signal.SIGTERM})
ray.shutdown()
