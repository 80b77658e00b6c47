"""Promises of the whole house, kept by real processes: the `headrace` command, HTTP and kubectl, nothing in between."""
