"""The same manifests on a real Kubernetes with Knative: `make e2e`."""
