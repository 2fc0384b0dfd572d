"""Machines for Ray's autoscaler: those of its provider of fake machines, which are raylets, and turned off as machines are."""

import contextlib

import psutil
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class Provider(FakeMultiNodeProvider):
    """`provider: {type: external, module: tests.journeys.ray_provider.Provider}`."""

    def create_node_with_resources_and_labels(self, node_config, tags, count, resources, labels):
        """Start a raylet. It finds out how much memory it has; its parameters must not say so."""
        others = {name: amount for name, amount in resources.items() if name != "memory"}
        super().create_node_with_resources_and_labels(node_config, tags, count, others, labels)

    def terminate_node(self, node_id):
        """Turn a machine off: its raylet ends, and so does the agent that runs beside it."""
        super().terminate_node(node_id)
        for process in psutil.process_iter(["cmdline"]):
            if "homeport.node" in (process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.Error):
                    process.kill()
