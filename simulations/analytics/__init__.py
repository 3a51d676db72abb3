"""Plan files: what phones are asked, what an answer costs, and how it is released."""
