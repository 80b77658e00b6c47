"""The journal of events in a cluster, written by a Trigger and read over HTTP; the laptop's Broker keeps its own."""
