"""The running state beside a set: `.ddhub`, which is never pushed, verified or loaded."""

STATE = ".ddhub"
