"""Federated training: data stays at its sites, updates travel; Flower carries and adds them up."""
