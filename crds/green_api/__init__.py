"""The vocabulary of green training: pure types shared by operator, pods and command line.

The modules, from the inside out:

- ``errors``: the exception tree.
- ``units``: energy, power, intensity and emissions as types.
- ``base``: what every model shares; rules that hold both in Python and, as CEL, in the API server.
- ``job``, ``zone``, ``status``: the custom resources.
- ``contract``: the documents that pass between operator and pods.
- ``crd``: the CustomResourceDefinitions, generated from the types.

Nothing in here reads a clock, a file or the network.
"""

from typing import Final

GROUP: Final = "greentraining.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "greentraining.io/v1alpha1"
