"""Events: their contract, and how they are sent, received and made from dropped files."""
