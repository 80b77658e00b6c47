"""The laptop's kubelet: a Pod object is a process, started, probed, logged and ended."""
