"""`two.py` on Ray Serve, without its access log. Argument 1 is the port, argument 2 the number of replicas."""

import signal
import sys

import ray
from ray import serve
from two import web

# without it the replica would import `two.py` and find no such module: it is sent by value instead
ray.cloudpickle.register_pickle_by_value(sys.modules["two"])


@serve.deployment(
    num_replicas=int(sys.argv[2]), max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.1}
)
@serve.ingress(web)
class Two:
    pass


ray.init(include_dashboard=False, logging_level="warning", log_to_driver=False)
serve.start(
    http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
serve.run(Two.bind(), route_prefix="/")
signal.sigwait({signal.SIGINT, signal.SIGTERM})
ray.shutdown()
