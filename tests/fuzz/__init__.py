"""What a predictor makes of malformed input, at scale: `python -m tests.fuzz`, and a bounded run in the test suite."""
