"""The training Jobs: an event in, a package proven equal to what was trained out. A new trainer is one file here."""
