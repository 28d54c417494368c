"""A real node on this machine.

hold.py        namespaces and cgroups that end with the tests, however those end
room.py        the same as a context of the tests: run something in there
node.py        scheduler, containerd, CNI bridge, kubelet, kube-proxy, CoreDNS
images.py      the project's images from its Containerfiles, without a registry
policies.py    NetworkPolicies, enforced by rules of nftables
prometheus.py  a real Prometheus
cluster.py     all of it, with the chart installed
"""
