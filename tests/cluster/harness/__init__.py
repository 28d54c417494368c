"""A real API server and Job controller, a scripted kubelet, and faults between operator and server.

control_plane.py   etcd, kube-apiserver, kube-controller-manager as plain processes
client.py          a small synchronous client with dicts
kubelet.py         scheduler and kubelet in one thread; pods answer with the jobs' own server
proxy.py           records writes and injects faults
audit.py           what a user was seen to do, against what it may do
"""
