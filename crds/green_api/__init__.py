"""The vocabulary of green training: pure types shared by the operator, the pods and the command line.

The modules, from the inside out:

- ``errors``: the exception tree.
- ``units``: energy, power, intensity and emissions as types.
- ``base``: what every model shares; rules that hold both in Python and, as CEL, in the API server.
- ``job``, ``zone``, ``status``: the custom resources.
- ``contract``: the documents that pass between operator and pods.
- ``crd``: the CustomResourceDefinitions, generated from the types.

Nothing in here reads a clock, a file or the network.
"""

GROUP = "greentraining.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
