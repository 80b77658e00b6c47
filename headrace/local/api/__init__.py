"""The laptop's API server: the Kubernetes REST API over `headrace.local.objects.objects`, strict as a real one."""
