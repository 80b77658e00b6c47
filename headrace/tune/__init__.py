"""What to set, and why: traffic in, Knative's decisions simulated on it, annotations out."""
