"""What a laptop's platform and a cluster both promise, asked of both by the same tests."""
