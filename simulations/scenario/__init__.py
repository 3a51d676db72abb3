"""One TOML file describes one simulation."""
