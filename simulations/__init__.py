"""Scenarios, engines, runs, reports and the command line."""
