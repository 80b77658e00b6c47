"""The laptop's page for people without kubectl, and the figures on it."""
