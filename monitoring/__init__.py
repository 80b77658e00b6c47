"""What all sides count with: metric definitions and drift statistics."""
