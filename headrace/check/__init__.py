"""Manifests judged without a cluster: what it would refuse, and what it would take though it is foolish."""
