"""A model's OpenAPI document, and the page over it."""
