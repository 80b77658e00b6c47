"""The commands, by what they are about. Each parses, makes one call, prints."""
