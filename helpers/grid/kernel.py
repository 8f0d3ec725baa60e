"""The kernel of a notebook in a child process: ipykernel, which ends at once with the child that started it.

ipykernel asks for its parent once a second too, but only from when it has loaded everything.
"""

import sys

from helpers.parents import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv.pop(1)))

    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
