"""A Kubernetes cluster on one machine, built from source: `python -m tools.k8s_cluster`."""
