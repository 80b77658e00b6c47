"""The laptop's controllers: from what an object asks for to what runs, and back into its status."""
