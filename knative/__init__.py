"""What a workload or the CLI may know of Knative: its decisions, pure, and the one client of its API."""
