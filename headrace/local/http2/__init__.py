"""HTTP/2 without TLS, as gRPC speaks it: what the laptop's gateway and its probes need of it."""
