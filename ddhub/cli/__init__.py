"""The commands, grouped by what they are for; each parses, calls one function of api, and prints."""
