"""The network of a run with `--net`: namespaces, routes that can be cut, and a wire that loses and delays packets.

The command starts itself again in a network and a process namespace of its own. So two runs never meet, and the kernel
removes every process, namespace and link when the command ends, whatever ended it.
"""
