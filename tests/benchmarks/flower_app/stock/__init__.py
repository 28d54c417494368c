"""An app for stock Flower, with two clients to choose from."""
