"""The rooms' manifests to a cluster, and away again: what to apply, what differs, what is wrong."""
