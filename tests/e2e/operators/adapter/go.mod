module programs

go 1.26.4

require sigs.k8s.io/prometheus-adapter v0.12.0
