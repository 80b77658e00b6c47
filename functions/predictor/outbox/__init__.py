"""What is told to the Broker beside the answers: predictions, and versions that cannot serve."""
