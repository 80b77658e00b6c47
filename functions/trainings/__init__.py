"""The trainings' receiver: where no JobSink starts a training, an event that asks for one does it here."""
