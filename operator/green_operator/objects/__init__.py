"""Kubernetes objects as values: what is made, and what is read of what is seen; pure."""
