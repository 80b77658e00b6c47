"""The laptop's etcd: every object on disk and in memory, what kinds there are, what changed."""
