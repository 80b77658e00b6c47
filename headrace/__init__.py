"""The product around the rooms: the command line, and `headrace.local`, the platform of a laptop."""
