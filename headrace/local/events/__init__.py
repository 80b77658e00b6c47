"""The laptop's Eventing: Broker and JobSink, their journal and deliveries."""
