"""KEDA, what it asks, and who asks our models meanwhile."""
