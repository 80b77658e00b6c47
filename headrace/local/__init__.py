"""The laptop's stand-ins for what a cluster brings: API server, reconcilers, gateway, broker, job sink."""
