"""A method, a layout and an architecture for ddhub."""
