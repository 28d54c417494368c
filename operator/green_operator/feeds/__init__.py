"""Asking the providers of carbon intensity, for a cluster and for one machine alike.

- ``client``: HTTP with bounds on time and size, without redirects and proxies.
- ``providers``: which questions a source asks, and where.
- ``pace``: when a source is asked next.
- ``references``: what a zone refers to; the caller reads ConfigMaps and Secrets.
- ``zone_feeds``: the sources of all zones, their last good answers and their history.

What answers mean is decided in ``sources``, which is pure.
"""
