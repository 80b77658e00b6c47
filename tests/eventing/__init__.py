"""Tests of the room eventing."""
