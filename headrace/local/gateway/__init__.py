"""The laptop's way in: routes, queues, activation from zero, and the autoscaler that follows the traffic."""
