"""A Kubernetes cluster: what is seen there, what is done there, and who may do it."""
