"""The variables by which an agent is told how to join; it removes them, so that no container inherits them."""

JOIN = "HOMEPORT_NODE_JOIN"  # the address of the control plane, a space, and the name that this machine wants
TOKEN = "HOMEPORT_NODE_TOKEN"  # the join token; only needed once  # noqa: S105 - its name
REACH = "HOMEPORT_NODE_REACH"  # where the control plane's ingress reaches the containers: HOST:PORT, HOST or :PORT
LABELS = "HOMEPORT_NODE_LABELS"  # of this machine, when it joins: `region=eu,disk=ssd`
