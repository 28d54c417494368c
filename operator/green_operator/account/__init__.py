"""Accounting: readings into energy, energy into emissions, against a counterfactual; pure."""
