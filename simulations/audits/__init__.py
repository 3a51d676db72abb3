"""Scenarios under attack: what observers see, what attacks find, and how that is judged."""
