"""From finished runs to tables and figures. `compare` is imported by its own name: it is also a command."""
