"""Where the federated rounds run: in one process, on workers, behind Flower's own engines."""
