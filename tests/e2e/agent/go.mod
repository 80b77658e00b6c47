// kube-router's network policy controller, with the Kubernetes libraries of the cluster that it is for: those are in the
// build cache already where that cluster was built from modules.
module policy-agent

go 1.26.0

require (
	github.com/cloudnativelabs/kube-router/v2 v2.1.0
	k8s.io/api v0.37.2
	k8s.io/client-go v0.37.2
)
