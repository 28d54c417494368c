"""The operator's rooms: what decides is pure, what touches the world stands at the edge.

Pure: ``amounts`` (figures for people), ``plan`` (when and where), ``account`` (energy into
emissions), ``lifecycle`` (which state follows, with its reasons), ``sources`` (intensity). I/O:
``feeds`` (asking providers), ``local`` (one machine in the place of a cluster), ``metrics``. Edge:
``cli``.
"""
