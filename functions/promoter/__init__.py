"""The promoter: gate, canary, verdict. A trained version comes in as an event, its verdict goes out as one."""
