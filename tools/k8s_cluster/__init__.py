"""A Kubernetes of one machine, made from source: `python -m tools.k8s_cluster`."""
