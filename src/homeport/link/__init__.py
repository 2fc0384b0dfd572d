"""The node role over the network: one mTLS connection between the control plane and the agent of another machine."""
